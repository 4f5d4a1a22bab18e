"""Training: `train(objective, recipe)` takes a recipe (ragvec.recipe) to a folder that loads; `plan_run` only counts."""

from ragvec.train.run import plan_run, train

__all__ = ["plan_run", "train"]
