"""An encoder: does it read in both directions, and do padding, batches and precision leave its vectors alone?"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.doctor.check import ADVICE, FAILED, OK, Check, judged
from ragvec.errors import RagvecError

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

AREA = "encoder"
TEXTS = (
    "How do plants make food?",
    "",
    "Plants turn light, water and carbon dioxide into sugar; the reaction happens in the chloroplasts of their leaves.",
    "서울은 대한민국의 수도이며 한강이 도시를 가로지른다.",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 12,
)
LEAST_COSINE = 0.999
_BATCH_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "float16": 0.9999}
_LARGEST_DOUBLED = 3_000_000_000  # parameters; a larger model is not loaded a second time in float32


def examine_encoder(source: str | None, **loading: Any) -> Iterator[Check]:
    """Load an encoder, with these arguments of `Encoder.load`, and examine it; None = the bundled one."""
    from ragvec.encoder import Encoder
    from ragvec.encoder.door import foreign

    try:
        with foreign("it does not load"):
            encoder = Encoder.load(source, **loading)
    except RagvecError as error:
        yield Check(AREA, "loads", FAILED, str(error), remedy="or name another encoder, folder or hub id")
        return
    told = encoder.describe()
    what = (
        f"{told['architecture']}, {told['parameters']:,} parameters, {told['dimension']}-d, {told['dtype']} on {told['device']}"
    )
    yield Check(AREA, "loads", OK, f"{encoder.source}: {what}")
    yield from examine_loaded(encoder)


def examine_loaded(encoder: "Encoder") -> Iterator[Check]:
    """Examine an encoder that is at hand; what can't be examined is a failed check."""
    yield from _tried("padding", lambda: _model(encoder))
    yield from _tried("vectors", lambda: _results(encoder))


def _tried(name: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """These checks; where they break off, a failed one of this name says why."""
    from ragvec.encoder.door import foreign

    try:
        with foreign("it does not compute"):
            yield from checks()
    except RagvecError as error:
        yield Check(AREA, name, FAILED, str(error), remedy="or name another encoder, folder or hub id")


def _model(encoder: "Encoder") -> Iterator[Check]:
    from ragvec.encoder.ready import probe_model

    model = encoder.model.get_base_model() if hasattr(encoder.model, "get_base_model") else encoder.model
    result = probe_model(model)
    yield _direction(encoder.settings.attention, result)
    error, limit = result.padding_error, result.tolerance
    remedy = "compute in float32: vectors depend on what a text is batched with"
    moves = f"moves a state by {error:.1e} of {limit:.0e} allowed{'; batches are packed' if encoder.settings.packed else ''}"
    yield judged(AREA, "padding", bool(encoder.settings.packed) or error <= limit, moves, remedy=remedy)
    yield _packing(encoder, result)


def _results(encoder: "Encoder") -> Iterator[Check]:
    vectors = encoder.encode_documents(TEXTS)
    yield _finite(vectors)
    yield _batches(encoder, vectors)
    yield _precision(encoder, vectors)


def _direction(attention: str, result: Any) -> Check:
    moved = f"the last token moves an earlier state by {result.moved:.1e}"
    if attention == "bidirectional":
        remedy = "its attention stayed causal: convert the base model again with `ragvec convert`"
        return judged(AREA, "bidirectional", result.bidirectional, moved, remedy=remedy)
    if attention == "causal":
        return judged(
            AREA, "causal", not result.bidirectional, moved, remedy="its attention is not causal: convert the model again"
        )
    return Check(AREA, "attention", OK, f"as its architecture has it; {moved}")


def _packing(encoder: "Encoder", result: Any) -> Check:
    if result.packs:
        return Check(AREA, "packing", OK, f"packed and padded states differ by {result.packing_error:.1e}")
    remedy = "nothing is wrong, but batches are padded and slower"
    if encoder.settings.packed:
        return Check(
            AREA, "packing", FAILED, result.packing_refusal, remedy="its ragvec.json says that packing works: convert it again"
        )
    return Check(AREA, "packing", ADVICE, result.packing_refusal, remedy=remedy)


def _finite(vectors: np.ndarray) -> Check:
    bad = int((~np.isfinite(vectors).all(axis=1) | (np.linalg.norm(vectors, axis=1) < 1e-6)).sum())
    found = f"{bad} of {len(vectors)} texts give NaN, infinity or zero"
    return judged(
        AREA,
        "vectors",
        not bad,
        found,
        remedy="compute in float32 (`dtype` float32); if that fails too, the weights are damaged",
    )


def _batches(encoder: "Encoder", vectors: np.ndarray) -> Check:
    alone = np.concatenate([encoder.encode_documents([text]) for text in TEXTS])
    least = _least_cosine(vectors, alone)
    limit = _BATCH_COSINE.get(encoder.dtype, LEAST_COSINE)
    found = f"a text alone and in a batch: cosine ≥ {least:.6f}"
    return judged(
        AREA,
        "batches",
        least >= limit,
        found,
        remedy="report it, or encode one text at a time (`ragvec encode --batch-tokens 1`)",
    )


def _precision(encoder: "Encoder", vectors: np.ndarray) -> Check:
    if encoder.dtype == "float32":
        return Check(AREA, "precision", OK, "computes in float32, the reference")
    parameters = sum(weight.numel() for weight in encoder.model.parameters())
    if parameters > _LARGEST_DOUBLED:
        return Check(
            AREA, "precision", OK, f"computes in {encoder.dtype}; too large to be loaded again in float32, so not compared"
        )
    from ragvec.encoder import Encoder

    exact = Encoder.load(encoder.source, device=str(encoder.device), dtype="float32", offline=True).encode_documents(TEXTS)
    least = _least_cosine(vectors, exact)
    found = f"{encoder.dtype} against float32: cosine ≥ {least:.6f}"
    return judged(AREA, "precision", least >= LEAST_COSINE, found, remedy="pass `dtype` float32")


def _least_cosine(left: np.ndarray, right: np.ndarray) -> float:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / np.maximum(norms, 1e-12)).min())
