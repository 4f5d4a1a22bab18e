"""Training: `train(recipe)` takes a recipe (ragvec.train.recipe) to a folder that loads; `plan_run` only counts.

Names load on first use: reading a recipe needs no torch.
"""

from typing import TYPE_CHECKING

from ragvec.lazy import lazy_names

if TYPE_CHECKING:
    from ragvec.train.training import plan_run, train

_LAZY = dict.fromkeys(("plan_run", "train"), "ragvec.train.training")
__all__ = ["plan_run", "train"]
__getattr__ = lazy_names(__name__, _LAZY)
