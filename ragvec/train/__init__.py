"""Training: `train(recipe)` takes a recipe (ragvec.train.recipe) to a folder that loads; `plan_run` only counts.

Names load on first use: reading a recipe needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragvec.train.training import plan_run, train

__all__ = ["plan_run", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("ragvec.train.training"), name)
    raise AttributeError(f"module 'ragvec.train' has no attribute {name!r}")
