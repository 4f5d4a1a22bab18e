"""One progress bar for everything that takes longer than a second: on stderr, and only on a terminal."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(label: str, *, total: int | None, unit: str, show: bool) -> "tqdm[Any]":
    """A tqdm bar that draws nothing unless `show` is true and stderr is a terminal."""
    return tqdm(total=total, desc=label, unit=f" {unit}", file=sys.stderr, disable=None if show else True, unit_scale=True)
