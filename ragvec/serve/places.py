"""What clients may know of the server's folders: their names, and nothing of where they lie."""

import os
import re
from pathlib import Path, PurePath
from typing import Any

_PART = r"[^\s/'\"():,;]+"
# a path in a sentence, past a space or two where a slash follows them ("/srv/my models/x")
_PATH = rf"(?<![\w.~-])(?:~|\.{{1,2}})?(?:/+{_PART}(?:(?: {_PART}){{1,2}}(?=/))?)+/?"


class Places:
    """Folders of this machine that errors may name."""

    def __init__(self, *folders: str | Path) -> None:
        """folders: also those that no pattern would find, such as relative ones and ones with odd characters."""
        self._names = {form: PurePath(folder).name for folder in folders for form in _forms(folder)}
        known = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?P<known>{known})(?P<inside>(?:/{_PART})*)(?![\w-])|{_PATH}" if known else _PATH)

    def without(self, text: str) -> str:
        """A text whose paths are cut to their last names; what lies in a known folder keeps its place there."""

        def shown(match: re.Match[str]) -> str:
            known = match.groupdict().get("known")
            return PurePath(match[0]).name if known is None else self._names[known] + match["inside"]

        return self._pattern.sub(shown, text)


def folder_name(source: str) -> str:
    """What clients are told an encoder is called: its hub id, or the last part of its folder."""
    here = source.startswith(("/", ".", "~")) or source.count("/") > 1 or Path(source).exists()
    return PurePath(os.path.abspath(source)).name if here else source


def without_places(described: Any) -> Any:
    """A description, with all in it, that names folders without saying where they are; its own `path` goes altogether."""
    match described:
        case dict():
            kept = {name: value for name, value in described.items() if name != "path"}
            return {name: value if name.endswith("instruction") else without_places(value) for name, value in kept.items()}
        case list():
            return [without_places(one) for one in described]
        case str() if "/" in described:
            return folder_name(described)
    return described


def _forms(folder: str | Path) -> set[str]:
    path = Path(folder)
    return {str(form) for form in (path, path.absolute(), path.resolve()) if len(form.parts) > 1}
