"""What filters have matched in one commit, kept for whoever asks the same next."""

import json
from collections.abc import Callable, Sequence

import numpy as np

from ragvec.arguments import where_text
from ragvec.index.where import checked_values
from ragvec.records import FilterValues

MOST = 16  # of one commit, at 8 bytes a match each


class KeptFilters:
    """Passage ids by filter, values and fields."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, tuple[str, ...]], np.ndarray] = {}

    def matching(
        self, where: str, values: FilterValues | None, find: Callable[[], np.ndarray], *, also: Sequence[str] = ()
    ) -> np.ndarray:
        """What a filter with these values, and these fields beside the index's own, has matched lately, or what `find` gives.

        Raises as that.
        """
        asked = where_text(where), json.dumps(checked_values(values), sort_keys=True), tuple(also)
        matching = self._kept.get(asked)
        if matching is None:
            matching = find()
            if len(self._kept) >= MOST:
                self.clear()
            self._kept[asked] = matching
        return matching

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()
