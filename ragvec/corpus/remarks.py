"""What is told of a corpus' files: each thing once, or a few times, however many files have it."""

import logging
from collections.abc import Iterable, Mapping, Sequence

_SHOWN = 5
_log = logging.getLogger("ragvec")


class FirstFew:
    """Warns of the first few of what may come a thousand times, and at the end of how many more there were."""

    def __init__(self, others: str) -> None:
        """others: what those are that were not told of, to stand behind their number."""
        self._others, self._count = others, 0

    def tell(self, message: str, *values: object) -> None:
        """Warn of one, or count it."""
        self._count += 1
        if self._count <= _SHOWN:
            _log.warning(message, *values)

    def close(self) -> None:
        """Say how many were only counted."""
        if self._count > _SHOWN:
            _log.warning("and %s more %s", f"{self._count - _SHOWN:,}", self._others)
        self._count = 0


class Remarks:
    """Warns of columns that are left out: once of each name and kind, and of those not at all that were to go; of front matter
    that can't be read: of the first few files. Close it when all have been read."""

    def __init__(self, drop: Iterable[str] = ()) -> None:
        """drop: the names, letter case aside, of columns that nobody wants."""
        self.names: set[str] = set()  # of all that were left out, in lower case
        self._matter = FirstFew("files whose front matter stays in the text")
        self._drop = {name.lower() for name in drop}
        self._told: set[tuple[str, str]] = set()

    def unreadable(self, file: str, kinds: Mapping[str, str]) -> None:
        """Tell of columns by name whose type, as Arrow calls it, can't be read."""
        self.names.update(map(str.lower, kinds))
        news = {name: kind for name, kind in kinds.items() if name.lower() not in self._drop and (name, kind) not in self._told}
        self._told.update(news.items())
        if news:
            columns = ", ".join(f"{name!r:.80} ({kind!r:.80})" for name, kind in news.items())
            _log.warning("%s: columns that hold no text and nothing to filter by are left out: %s", file, columns)

    def nameless(self, file: str, places: Sequence[int]) -> None:
        """Tell of a table's columns, counted from 1, that have no name."""
        news = [place for place in places if ("", str(place)) not in self._told]
        self._told.update(("", str(place)) for place in news)
        if news:
            columns = ", ".join(map(str, news))
            _log.warning("%s: columns without a name are left out (%s): name them in the header", file, columns)

    def front_matter(self, file: str, why: str) -> None:
        """Tell of a file's front matter that can't be read."""
        self._matter.tell("%s: its front matter stays in the text, for it cannot be read: %s", file, why)

    def close(self) -> None:
        """Say what was counted."""
        self._matter.close()
