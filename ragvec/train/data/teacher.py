"""A teacher's vectors for distillation: .npy files beside the texts, or shards that hold both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragvec.errors import RagvecError, WrongUsage
from ragvec.train.data.examples import Text, read_texts
from ragvec.train.data.reading import Reading
from ragvec.train.recipe import Recipe

_ROWS = 8192


def read_teacher(recipe: Recipe, files: Sequence[str], *, reading: Reading | None = None) -> tuple[list[Text], np.ndarray]:
    """The texts and their teacher's vectors (n, dim), float16 or float32.

    teacher_vectors names .npy files, one for each file of texts and row for row; or shards folders (`ragvec encode`), which
    hold the texts too. reading remembers what was not read.
    Raises RagvecError where the numbers differ or a vector is not finite.
    """
    sources = [Path(name).expanduser() for name in recipe.teacher_vectors]
    if not sources:
        raise WrongUsage('distill needs "teacher_vectors": a .npy file for each train_file, or folders of shards')
    if all(path.is_dir() for path in sources):
        parts = [_from_shards(path) for path in sources]
    else:
        if reading is not None and reading.skip:
            raise WrongUsage("on_error is skip, but a .npy file's vectors match its texts row for row: mend the rows instead")
        if len(sources) != len(files):
            raise WrongUsage(f"{len(files)} files of texts but {len(sources)} of teacher_vectors: name one for each")
        parts = [_from_array(recipe, file, path, reading) for file, path in zip(files, sources, strict=True)]
    widths = {vectors.shape[1] for _, vectors in parts}
    if len(widths) > 1:
        raise RagvecError(f"teacher_vectors have different dimensions ({', '.join(map(str, sorted(widths)))}): use one teacher")
    texts = [text for some, _ in parts for text in some]
    vectors = parts[0][1] if len(parts) == 1 else np.concatenate([some for _, some in parts])
    limit = recipe.max_train_samples
    return texts[:limit], vectors[:limit]


def _from_array(recipe: Recipe, file: str, path: Path, reading: Reading | None) -> tuple[list[Text], np.ndarray]:
    texts = read_texts(recipe, [file], reading=reading)
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RagvecError(f"{path} is not a readable .npy file: {error}") from error
    if vectors.ndim != 2 or (len(vectors) != len(texts) and recipe.max_train_samples is None) or len(vectors) < len(texts):
        raise RagvecError(
            f"{path} has the shape {vectors.shape}, {file} holds {len(texts):,} texts (empty ones left out): "
            "the teacher's vectors must match them row for row"
        )
    return texts, _finite(vectors[: len(texts)], path)


def _from_shards(path: Path) -> tuple[list[Text], np.ndarray]:
    from ragvec.shards import Shards

    texts, blocks = [], []
    for passages, vectors in Shards.open(path).blocks(_ROWS):
        texts += [Text(passage.encoded_text, path.name) for passage in passages]
        blocks.append(vectors)
    if not texts:
        raise RagvecError(f"{path} holds no vectors")
    return texts, _finite(np.concatenate(blocks), path)


def _finite(vectors: np.ndarray, path: Path) -> np.ndarray:
    for start in range(0, len(vectors), _ROWS):
        bad = ~np.isfinite(vectors[start : start + _ROWS]).all(axis=1)
        if bad.any():
            raise RagvecError(
                f"{path}: the vector of row {start + int(bad.argmax()) + 1} is not finite: encode that text again"
            )
    return vectors
