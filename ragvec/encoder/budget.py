"""How many tokens a batch may hold: given, or found by measuring the first blocks; less once memory has run out."""

import torch

_STARTS = {"cpu": 4096}
_CANDIDATES = {"cpu": (2048, 4096, 8192)}  # beyond this a CPU's caches overflow
_START_ACCELERATOR = 32768
_CANDIDATES_ACCELERATOR = (16384, 32768, 65536, 131072)
_TRIALS = 2  # blocks for each candidate; the better one counts, for the other may have been disturbed
_NO_MEMORY = ("can't allocate memory", "out of memory")
_BATCHES = 2  # a block of fewer batches than this says nothing about a candidate


class TokenBudget:
    """The tokens of a batch. While it is open, `begin` names a candidate for each block and `record` hears how fast it was."""

    def __init__(self, given: int | None, device_type: str) -> None:
        """given: the budget to keep, None = start from a usual one and measure."""
        self.tokens = given or _STARTS.get(device_type, _START_ACCELERATOR)
        candidates = _CANDIDATES.get(device_type, _CANDIDATES_ACCELERATOR)
        self._trials: list[int] = [] if given else list(candidates) * _TRIALS
        self._rates: dict[int, float] = {}

    @property
    def is_open(self) -> bool:
        """Whether further blocks are to be measured."""
        return bool(self._trials)

    def begin(self, tokens: int) -> int | None:
        """The candidate to try on a block of so many tokens; None = not a block to measure."""
        if self._trials and tokens >= _BATCHES * max(self._trials):
            self.tokens = self._trials[0]
            return self.tokens
        return None

    def record(self, tokens: int, seconds: float) -> None:
        """The block that was begun took so long. After the last trial the fastest candidate stays."""
        if not self._trials:  # memory ran out in it
            return
        candidate = self._trials.pop(0)
        self._rates[candidate] = max(self._rates.get(candidate, 0.0), tokens / max(seconds, 1e-9))
        if not self._trials:
            self.tokens = max(self._rates, key=self._rates.__getitem__)

    def halve(self, tokens: int) -> None:
        """A batch of so many tokens did not fit: stay below from now on, and measure no more."""
        self.tokens = max(1, min(self.tokens, tokens // 2))
        self._trials = []


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whichever allocator raised it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
