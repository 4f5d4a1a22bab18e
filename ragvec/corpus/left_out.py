"""Columns of a corpus' files that hold nothing to read: each is told of once, however many files have it."""

import logging
from collections.abc import Iterable, Mapping, Sequence

_log = logging.getLogger("ragvec")


class LeftOut:
    """Warns of columns that are left out: once of each name and kind, and of those not at all that were to go."""

    def __init__(self, drop: Iterable[str] = ()) -> None:
        """drop: the names, letter case aside, of columns that nobody wants."""
        self.names: set[str] = set()  # of all that were left out, in lower case
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
