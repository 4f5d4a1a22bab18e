"""What a model is taught: a module for each objective, found by the word in the recipe."""

from ragvec.train.objectives.clm import CLM
from ragvec.train.objectives.distill import DISTILL
from ragvec.train.objectives.mntp import MNTP
from ragvec.train.objectives.objective import ExampleSet, Objective, Teaching
from ragvec.train.objectives.simcse import SIMCSE
from ragvec.train.objectives.supervised import SUPERVISED
from ragvec.train.recipe import ObjectiveName, Recipe

__all__ = ["ExampleSet", "Objective", "Teaching", "objective_of"]

_BY_NAME: dict[ObjectiveName, Objective] = {
    "clm": CLM,
    "mntp": MNTP,
    "simcse": SIMCSE,
    "supervised": SUPERVISED,
    "distill": DISTILL,
}


def objective_of(recipe: Recipe) -> Objective:
    """The objective that a recipe names."""
    return _BY_NAME[recipe.objective]
