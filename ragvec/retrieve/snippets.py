"""The sentence of a passage that answers a query best."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragvec.corpus.chunk import sentence_borders
from ragvec.retrieve.highlight import QueryWords

if TYPE_CHECKING:
    from ragvec.encoder.protocol import TextEncoder

LONGEST = 400  # characters of a sentence; a longer one is cut at white space, so that a table or a list is none
MOST = 200  # sentences of a passage that are looked at


def sentences(text: str) -> list[str]:
    """The first sentences of a text in order, without the white space around them."""
    text = text[: MOST * LONGEST]
    ends = list(sentence_borders(text))
    parts = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [piece for part in parts for piece in _pieces(" ".join(part.split()))][:MOST]


def best_sentences(query: str, texts: Sequence[str], vector: np.ndarray | None, encoder: "TextEncoder | None") -> list[str]:
    """Of each text the sentence that is nearest to the query; "" for a text without any.

    vector, encoder  the query's vector (d,) and what made it: nearest by cosine. None = by the query's words alone.
    """
    split = [sentences(text) for text in texts]
    if vector is None or encoder is None:
        words = QueryWords(query)
        return [max(parts, key=lambda part: len({word for *_, word in words.find(part)}), default="") for parts in split]
    flat = [part for parts in split for part in parts]
    cosines = (encoder.encode_documents(flat) @ vector).tolist() if flat else []
    best, start = [], 0
    for parts in split:
        scores = cosines[start : start + len(parts)]
        best.append(max(zip(scores, parts, strict=True), key=lambda pair: pair[0])[1] if parts else "")
        start += len(parts)
    return best


def _pieces(sentence: str) -> list[str]:
    pieces = []
    while len(sentence) > LONGEST:
        cut = sentence.rfind(" ", LONGEST // 2, LONGEST)
        cut = cut if cut > 0 else LONGEST
        pieces.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*pieces, sentence] if sentence else pieces
