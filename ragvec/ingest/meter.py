"""What a run shows while it goes: rates, share of the machine's peak, time left; on a bar, and as records for a log."""

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from ragvec.shards import Failure

LOG_SECONDS = 10.0
# fits 80 columns whatever the numbers; how many were cut is said at the end
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

Total = int | None | Callable[[], int | None]  # how many passages there are; called, by what is known by then


class MeasuresWork(Protocol):
    """How much work texts are, and how much the machine can do; `ragvec.encoder.speed.Speed` is one."""

    peak: float

    def flops(self, token_counts: np.ndarray) -> float:
        """Floating-point operations of encoding texts of these lengths."""


class Meter:
    """Counts what a run does. `log` is called with a record every LOG_SECONDS, for each failure, and at the end."""

    def __init__(
        self,
        bar: "tqdm[Any]",
        *,
        total: Total = None,
        speed: MeasuresWork | None = None,
        log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.encoded = self.reused = self.kept = self.truncated = self.failed = 0
        self._bar, self._speed, self._log = bar, speed, log
        self._expected = total if callable(total) else lambda: total
        bar.bar_format, bar.total = _BAR, self._expected()
        self._tokens, self._flops = 0, 0.0
        self._started = self._logged = time.monotonic()

    def count_encoded(self, token_counts: np.ndarray, truncated: np.ndarray) -> None:
        """Passages went through the encoder."""
        self.encoded += len(token_counts)
        self._tokens += int(token_counts.sum())
        self._flops += self._speed.flops(token_counts) if self._speed else 0.0
        self.truncated += int(truncated.sum())
        self._show(len(token_counts))

    def count_reused(self, rows: int, truncated: int) -> None:
        """Passages got an earlier run's vectors."""
        self.reused += rows
        self.truncated += truncated
        self._show(rows)

    def count_kept(self, rows: int, truncated: int) -> None:
        """Passages of a finished part passed by."""
        self.kept += rows
        self.truncated += truncated
        self._show(rows)

    def count_failed(self, failure: Failure) -> None:
        """A passage could not be encoded."""
        self.failed += 1
        if self._log:
            self._log({"event": "failed", "time": _now(), **failure._asdict()})
        self._show(1)

    def finish(self) -> None:
        """Write the last record."""
        if self._log:
            self._log({"event": "end", **self.record()})

    def record(self) -> dict[str, Any]:
        """The counts and rates so far; None for what is not known."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        done = self.encoded + self.reused + self.kept + self.failed
        total = self._expected()
        left = None if total is None else max(total - done, 0)
        return {
            "time": _now(),
            "seconds": round(seconds, 3),
            "passages": done,
            "total": total,
            "encoded": self.encoded,
            "reused": self.reused,
            "kept": self.kept,
            "failed": self.failed,
            "truncated": self.truncated,
            "tokens": self._tokens,
            "passages_per_s": round(self.encoded / seconds, 2),
            "tokens_per_s": round(self._tokens / seconds, 1),
            "peak_share": round(self._flops / seconds / self._speed.peak, 4) if self._speed else None,
            "eta_s": round(left * seconds / self.encoded, 1) if left is not None and self.encoded else None,
        }

    def _show(self, rows: int) -> None:
        self._bar.total = self._expected()
        self._bar.update(rows)
        if self._bar.disable and not self._log:
            return
        now = time.monotonic()
        if self._log and now - self._logged >= LOG_SECONDS:
            self._logged = now
            self._log({"event": "progress", **self.record()})
        if not self._bar.disable:
            record = self.record()
            share = "" if record["peak_share"] is None else f", {record['peak_share']:.0%} of peak"
            failed = f", {self.failed:,} failed" if self.failed else ""
            rate = f"{record['tokens_per_s']:,.0f} tokens/s{share}"
            self._bar.set_postfix_str(f"{rate}{failed}", refresh=False)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
