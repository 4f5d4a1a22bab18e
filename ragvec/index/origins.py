"""Which source a corpus is, and what the ids of its documents begin with."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ragvec.corpus.files import STDIN, corpus_files
from ragvec.corpus.kinds import ALL_FILES, NAMED_BY_FILE, FileChoice, format_of
from ragvec.corpus.spelling import composed
from ragvec.errors import NoDocuments, WrongInput, WrongUsage
from ragvec.index.sources import DocumentSource, Incoming
from ragvec.objects import as_path, is_url

STDIN_NAME = "standard input"


def incoming_sources(
    corpora: Sequence[str | Path],
    known: Sequence[DocumentSource],
    *,
    filled: bool,
    taken: Callable[[str], bool],
    name: str | None = None,
    id_prefix: str | None = None,
    sync: bool = False,
    files: FileChoice = ALL_FILES,
) -> list[Incoming]:
    """The corpora as sources, in order.

    known      the sources that the index has; filled: whether it holds any document
    taken      whether a document of the index has this id
    name       what the one corpus is called, instead of by its path; id_prefix: before each of its ids, None = as it was, or
               none. Ids that ragvec makes of file names and contents are unique in one source only: from an index's second
               source on they begin with the source's own name.
    files      which files of folders are read
    Raises WrongInput for a corpus that comes twice, and for an id_prefix other than before, unless it all is replaced (sync).
    """
    if len(corpora) > 1 and (name is not None or id_prefix is not None):
        raise WrongUsage(f"`name` and `id_prefix` are for one corpus at a time, here are {len(corpora)}")
    by_name = {source.name: source for source in known}
    incoming: list[Incoming] = []
    for corpus in corpora:
        called = _called(corpus, name, by_name)
        if any(each.source.name == called for each in incoming):
            raise WrongUsage(f"{called} is named twice: name each corpus once")
        there = by_name.get(called)
        if there is None:
            _check_outside(corpus, called, by_name)
            there = _new_source(corpus, called, id_prefix=id_prefix, known=list(by_name.values()), filled=filled, taken=taken)
        elif id_prefix not in (None, there.id_prefix):
            there = _renamed(there, id_prefix, sync)
        there = there._replace(made_prefix=composed(there.made_prefix))
        by_name[called] = there
        filled = True
        incoming.append(Incoming(there, _root(corpus), takes=files.takes))
    return incoming


def _called(corpus: str | Path, name: str | None, by_name: dict[str, DocumentSource]) -> str:
    if name is None:
        # made absolute, but no link is followed: one that is moved from today's copy to tomorrow's stays one source
        if is_url(corpus):
            return str(as_path(corpus))
        return STDIN_NAME if str(corpus) == STDIN else _as_known(os.path.abspath(corpus), by_name)
    if not name.strip() or "\0" in name:
        raise WrongUsage(f"the source's name is {name!r}: give it some text")
    return os.path.abspath(name) if name not in by_name and os.path.abspath(name) in by_name else name


def _as_known(path: str, by_name: dict[str, DocumentSource]) -> str:
    """The path as a source is called that is the same but for how a Mac spells it."""
    if path.isascii() or path in by_name:
        return path
    same = (known for known in by_name if composed(known) == composed(path))
    there = os.path.exists(path)
    return next((known for known in same if not (there and os.path.exists(known)) or os.path.samefile(known, path)), path)


def _check_outside(corpus: str | Path, called: str, by_name: dict[str, DocumentSource]) -> None:
    """Raises WrongInput for a part of a source: its documents would be there twice, or stand in that source's way."""
    for above in map(str, as_path(called).parents):
        if str(corpus) != STDIN and above in by_name:
            raise WrongInput(f"{corpus} lies in {above}, which is a source of this index: index {above} again instead")


def _root(corpus: str | Path) -> Path | None:
    if str(corpus) == STDIN or is_url(corpus):
        return None
    path = Path(corpus)
    return path if path.is_dir() else path.parent


def _renamed(source: DocumentSource, id_prefix: str | None, sync: bool) -> DocumentSource:
    if not sync:
        raise WrongInput(
            f"the ids of {source.name} begin with {source.id_prefix!r} in this index, not {id_prefix!r}: "
            "leave `id_prefix` out, or add `sync`, which removes its documents under their ids of before"
        )
    return DocumentSource(source.name, id_prefix or "")


def _new_source(
    corpus: str | Path,
    called: str,
    *,
    id_prefix: str | None,
    known: list[DocumentSource],
    filled: bool,
    taken: Callable[[str], bool],
) -> DocumentSource:
    if id_prefix is not None:
        return DocumentSource(called, id_prefix)
    return DocumentSource(called, "", _made_prefix(corpus, called, known=known, filled=filled, taken=taken))


def _made_prefix(
    corpus: str | Path, called: str, *, known: list[DocumentSource], filled: bool, taken: Callable[[str], bool]
) -> str:
    """None for a first source; then the last parts of its path, as few as no other source's ids begin with."""
    path = Path(composed(called))
    used = {source.id_prefix + source.made_prefix for source in known} - {""}
    if str(corpus) != STDIN and not Path(corpus).is_dir() and format_of(Path(corpus)) in NAMED_BY_FILE:
        # the one id is known beforehand; two files of a folder that are indexed one by one must not be named oddly
        names = [Path(composed(source.name)) for source in known]
        one_by_one = {name.name for name in names if format_of(name) in NAMED_BY_FILE}
        if path.name not in one_by_one and not taken(path.name):
            return ""
        path = path.parent
    elif not filled:
        return ""
    parts = [part for part in path.parts if part != path.anchor] or ["source"]
    prefixes = ["/".join(parts[-count:]) + "/" for count in range(1, len(parts) + 1)]
    return next((prefix for prefix in prefixes if prefix not in used), prefixes[-1])


def check_readable(corpora: Sequence[str | Path], files: FileChoice, *, may_be_empty: bool = False) -> None:
    """Raises RagvecError for a corpus that is not there or, unless it may be, empty, before any of them is worked on."""
    for corpus in corpora:
        if str(corpus) != STDIN:
            try:
                corpus_files(corpus, files)
            except NoDocuments:
                if not may_be_empty:
                    raise
