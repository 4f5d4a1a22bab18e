"""How many tokens a batch may hold: given, or found by measuring the first blocks; less once memory has run out."""

import torch

_START = 4096
_CANDIDATES = (2048, 4096, 8192)  # beyond this a CPU's caches overflow
_START_ACCELERATOR = 32768
_START_LARGE = 65536
_LARGE = 40 * 10**9  # bytes of a GPU's memory from which that is begun with
_CANDIDATES_ACCELERATOR = (16384, 32768, 65536, 131072)
_TRIALS = 2  # blocks for each candidate; the better one counts, for the other may have been disturbed
_BATCHES = 2  # a block of fewer batches than this says nothing about a candidate
_NO_MEMORY = ("can't allocate memory", "out of memory")


class TokenBudget:
    """The tokens of a batch. While it is open, `begin` names a candidate for each block and `record` hears how fast it was.

    Blocks may be begun before those before them are recorded.
    """

    def __init__(self, given: int | None, device: str, memory: int = 0) -> None:
        """given: the budget to keep, None = start from a usual one and measure. memory: bytes that a GPU has."""
        on_cpu = device == "cpu"
        self._usual = given or (_START if on_cpu else _START_LARGE if memory >= _LARGE else _START_ACCELERATOR)
        self.tokens = self._usual
        self.limit: float = float("inf")  # once memory has run out, no batch is larger
        candidates = () if given else _CANDIDATES if on_cpu else _CANDIDATES_ACCELERATOR
        self._trials: tuple[int, ...] = tuple(sorted(candidates, key=lambda one: one != self._usual)) * _TRIALS
        self._running = 0
        self._rates: dict[int, float] = {}

    @property
    def is_open(self) -> bool:
        """Whether further blocks are to be measured, or are being measured."""
        return bool(self._trials) or self._running > 0

    @property
    def block_tokens(self) -> int:
        """The largest budget that a block may still be tried with: blocks must be made for that one."""
        return max((self.tokens, *self._trials))

    def begin(self, tokens: int) -> int | None:
        """The candidate to try on a block of so many tokens; None = not a block to measure."""
        fitting = [trial for trial in self._trials if tokens >= _BATCHES * trial]
        if not fitting:
            self._choose()
            return None
        self.tokens = fitting[0]
        place = self._trials.index(self.tokens)
        self._trials = self._trials[:place] + self._trials[place + 1 :]
        self._running += 1
        return self.tokens

    def record(self, candidate: int, tokens: int, seconds: float) -> None:
        """A block that was begun with a candidate took so long. After the last trial the fastest candidate stays."""
        self._running -= 1
        if candidate <= self.limit:  # else memory ran out in it
            self._rates[candidate] = max(self._rates.get(candidate, 0.0), tokens / max(seconds, 1e-9))
        if not self.is_open:
            self._choose()

    def halve(self, tokens: int) -> None:
        """A batch of so many tokens did not fit: no batch is larger than half of it from now on, and no candidate is tried."""
        self.limit = max(1, min(self.limit, tokens // 2))
        self.tokens = int(min(self.tokens, self.limit))
        self._trials = tuple(trial for trial in self._trials if trial <= self.limit)

    def _choose(self) -> None:
        """The fastest of what was measured so far; the usual one until it has been compared itself."""
        fitting = [candidate for candidate in self._rates if candidate <= self.limit]
        if fitting and (self._usual in fitting or self._usual > self.limit):
            self.tokens = max(fitting, key=self._rates.__getitem__)
        else:
            self.tokens = int(min(self._usual, self.limit))


def device_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory; 0 for other devices."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whichever allocator raised it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
