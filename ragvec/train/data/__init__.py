"""Training data: texts and pairs from the formats people have, cut into examples, ordered in batches. No model here."""

from ragvec.train.data.batches import Batches
from ragvec.train.data.examples import (
    Example,
    Text,
    instruction_for,
    read_examples,
    read_pairs,
    read_texts,
    split_validation,
)
from ragvec.train.data.hub import dataset_files
from ragvec.train.data.pieces import Pieces, make_pieces
from ragvec.train.data.reading import Reading, reading_of
from ragvec.train.data.teacher import read_teacher

__all__ = [
    "Batches",
    "Example",
    "Pieces",
    "Reading",
    "Text",
    "dataset_files",
    "instruction_for",
    "make_pieces",
    "read_examples",
    "read_pairs",
    "read_teacher",
    "read_texts",
    "reading_of",
    "split_validation",
]
