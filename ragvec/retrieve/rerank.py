"""Scoring the best hits again with something slower and sharper: late interaction, or a cross-encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragvec.errors import NotFound, RagvecError, WrongInput, first_line

if TYPE_CHECKING:
    from ragvec.encoder.protocol import TextEncoder

MAXSIM = "maxsim"
MAXSIM_SHARE = 0.2  # in a hit's score, the rest being the first search's: by itself it made every data set worse
BLOCK = 16  # texts whose token vectors are held at once, and after which an encoder may end what nobody waits for any more

Reranker = Callable[[str, Sequence[str]], np.ndarray]  # (query, texts) → (n,) scores, higher is better


def load_reranker(
    name: str,
    encoder: "TextEncoder | None",
    *,
    instruction: str | None = None,
    device: str | None = None,
    offline: bool = False,
) -> Reranker:
    """A reranker by name: "maxsim" = the encoder's own token vectors (see `blend`), else a cross-encoder's folder or hub id.

    offline  never ask the hub for it

    Raises RagvecError where maxsim has no encoder, sentence-transformers is missing, or the model can't be loaded.
    """
    if name != MAXSIM:
        return load_cross_encoder(name, device, offline=offline)
    if encoder is None:
        raise WrongInput("reranking by maxsim needs an encoder: pass one to Retriever")
    return MaxSim(encoder, instruction)


@dataclass(frozen=True, slots=True)
class MaxSim:
    """The encoder's own token vectors as a reranker, whose scores count beside those that hits were found by."""

    encoder: "TextEncoder"
    instruction: str | None = None

    def __call__(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """As `maxsim`."""
        return maxsim(self.encoder, query, texts, instruction=self.instruction)


def blend(found: Sequence[float], scores: np.ndarray, *, least: float) -> np.ndarray:
    """The scores that hits were found by and those of `maxsim` made one, 0 … 1, (n,) float32.

    found   best first; each kind is scaled from the least it can be to the best of these hits: where all texts are equally
            near, as in a language that the encoder does not know, it says little
    least   of the first kind: -1 for a cosine, 0 for BM25 and what is fused
    """
    first = np.asarray(found, dtype=np.float32)
    if least < 0 and (most := float(np.abs(first).max())) > 1.01:  # products of vectors of any length have no least
        least = -2 * most
    parts = [(kind - low) / max(float(kind.max()) - low, 1e-9) for kind, low in ((first, least), (scores, -1.0))]
    blended: np.ndarray = (1 - MAXSIM_SHARE) * parts[0] + MAXSIM_SHARE * parts[1]
    return blended


def maxsim(encoder: "TextEncoder", query: str, texts: Sequence[str], *, instruction: str | None = None) -> np.ndarray:
    """Late interaction: the mean, over the query's tokens, of the cosine with the nearest token of a text; (n,) float32.

    instruction  what the query is for; None = the encoder's own. A text without tokens gets -1.
    Source: Khattab and Zaharia, ColBERT, SIGIR 2020; with the encoder's token vectors as they are, not trained for it.
    """
    if instruction is None:
        instruction = encoder.settings.query_instruction
    asked = encoder.encode_tokens([query], instruction=instruction)[0].vectors
    scores = np.full(len(texts), -1.0, dtype=np.float32)
    if not len(asked):
        return scores
    rows = sorted(range(len(texts)), key=lambda row: -len(texts[row]))  # those of about equal length together
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        read = encoder.encode_tokens([texts[row] for row in block], instruction=encoder.settings.document_instruction)
        for row, tokens in zip(block, read, strict=True):
            if len(tokens.vectors):
                scores[row] = (asked @ tokens.vectors.T).max(axis=1).mean()
    return scores


def load_cross_encoder(name: str, device: str | None = None, *, offline: bool = False) -> Reranker:
    """A cross-encoder as sentence-transformers loads it; safetensors only, no code from the model's folder."""
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise RagvecError("rerank with a model needs sentence-transformers: pip install sentence-transformers") from error
    try:
        safe = {"trust_remote_code": False, "local_files_only": offline, "model_kwargs": {"use_safetensors": True}}
        model = CrossEncoder(name, device=device, **safe)
    except (OSError, ValueError) as error:
        raise NotFound(f"can't load the cross-encoder {name}: {first_line(error)}") from error
    if model.num_labels != 1:
        raise WrongInput(f"{name} gives {model.num_labels} scores a pair, not 1: choose a cross-encoder made for ranking")

    def score(query: str, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(model.predict([(query, text) for text in texts], show_progress_bar=False), dtype=np.float32)

    return score
