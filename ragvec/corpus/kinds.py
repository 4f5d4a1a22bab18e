"""Which files of a folder are read, and as what: by their names, and by what whoever reads it chose."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.corpus.compressed import COMPRESSIONS
from ragvec.corpus.spelling import composed
from ragvec.errors import WrongUsage

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet", ".arrow": "arrow",
    ".csv": "csv", ".tsv": "tsv", ".txt": "text", ".text": "text", ".rst": "text", ".md": "markdown", ".markdown": "markdown",
    ".html": "converted", ".htm": "converted", ".pdf": "converted", ".docx": "converted",
    ".pptx": "converted", ".xlsx": "converted", ".epub": "converted", ".ipynb": "converted", ".eml": "converted",
}  # fmt: skip
READ_IN_PLACE = ("parquet", "arrow")  # formats that are not read as one stream of bytes, and so are never compressed again
NAMED_BY_FILE = ("text", "markdown", "converted")  # formats of which a file is one document
SPLITS_FILE = "dataset_dict.json"  # of what `datasets` saved: a folder for each split lies beside it
_SAVED = frozenset(("state.json", "dataset_info.json"))  # beside the rows of one
_TEXT_NAMES = frozenset(  # that files without a suffix have
    ("readme", "license", "licence", "copying", "notice", "authors", "contributors", "contributing", "changelog", "changes",
     "history", "news", "install", "todo", "faq")
)  # fmt: skip


@dataclass(frozen=True)
class FileChoice:
    """Which files of a folder are read, by patterns as .gitignore has them: `*.md`, `drafts/`, `docs/**/*.html`.

    Names and patterns are compared composed (NFC), however a Mac spells them.

    include        only files that one of these matches; none = all that ragvec can read
    exclude        no file that one of these matches, and none of a folder that does
    text_suffixes  of files that are read as text though ragvec does not know them: .py, .log
    Raises WrongInput for what is no pattern.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    text_suffixes: tuple[str, ...] = ()
    _included: "GitIgnoreSpec | None" = field(init=False, repr=False, compare=False)
    _excluded: "GitIgnoreSpec | None" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        suffixes = tuple(f".{suffix.lstrip('.').lower()}" for suffix in self.text_suffixes)
        object.__setattr__(self, "text_suffixes", suffixes)
        object.__setattr__(self, "_included", _spec("include", self.include))
        object.__setattr__(self, "_excluded", _spec("exclude", self.exclude))

    def takes(self, name: str) -> bool:
        """Whether a file is read as far as patterns go; name: its path from the folder, with slashes."""
        return self._is_left(name) and (self._included is None or self._included.match_file(composed(name)))

    def enters(self, name: str) -> bool:
        """Whether a folder's files are looked at; name: as for `takes`."""
        return self._is_left(f"{name}/")

    def _is_left(self, name: str) -> bool:
        """Whether nothing excludes it."""
        return self._excluded is None or not self._excluded.match_file(composed(name))

    def format_of(self, path: Path) -> str | None:
        """The format that a file's name promises, compression aside; None if it promises none."""
        suffixes = [suffix.lower() for suffix in path.suffixes]
        compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
        if compressed:
            suffixes.pop()
        if suffixes and suffixes[-1] in self.text_suffixes:
            return "text"
        if not suffixes:
            return "text" if path.stem.lower() in _TEXT_NAMES else None
        kind = FORMATS.get(suffixes[-1])
        return None if compressed and kind in READ_IN_PLACE else kind


def can_read(path: Path, kind: str | None) -> bool:
    """Whether a file of this format can be read here: PDF, HTML, DOCX and the like where the extra `docs` is installed.

    Mails are read without it, all but those that are HTML alone.
    """
    return kind is not None and (kind != "converted" or suffix_of(path.name) == ".eml" or find_spec("markitdown") is not None)


def format_of(path: Path) -> str | None:
    """The format that a file's name promises to whoever chose nothing."""
    return ALL_FILES.format_of(path)


def without_descriptions(paths: Sequence[Path]) -> list[Path]:
    """A folder's files, but for those in which `datasets` describes what it saved there."""
    saved = {path.name for path in paths} >= _SAVED and any(format_of(path) == "arrow" for path in paths)
    return [path for path in paths if path.name != SPLITS_FILE and not (saved and path.name in _SAVED)]


def suffix_of(name: str) -> str:
    """A file name's suffix in lower case, compression aside: .pdf; "" if it has none."""
    return next((suffix.lower() for suffix in reversed(Path(name).suffixes) if suffix.lower() not in COMPRESSIONS), "")


def _spec(argument: str, patterns: Sequence[str]) -> "GitIgnoreSpec | None":
    """What matches these patterns; None for none, which need no library."""
    if not patterns:
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(map(composed, patterns))
    except ValueError as error:
        raise WrongUsage(
            f"`{argument}` {', '.join(patterns)!r} holds what is no pattern of files, such as *.md or drafts/"
        ) from error


ALL_FILES = FileChoice()
