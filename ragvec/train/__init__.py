"""Training: `train(objective, recipe)` takes a recipe (ragvec.recipe) to a folder that loads."""

from ragvec.train.run import train

__all__ = ["train"]
