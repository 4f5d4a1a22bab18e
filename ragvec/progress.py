"""One progress bar for everything that takes longer than a second, on stderr and only on a terminal; durations in words."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(label: str, *, total: int | None, unit: str, show: bool) -> "tqdm[Any]":
    """A tqdm bar that draws nothing unless `show` is true and stderr is a terminal."""
    return tqdm(total=total, desc=label, unit=f" {unit}", file=sys.stderr, disable=None if show else True, unit_scale=True)


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has two: "90.0 s", "2.5 min", "3.0 h", "4.2 days"."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
