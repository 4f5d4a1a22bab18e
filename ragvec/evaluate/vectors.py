"""Texts to vectors for the tasks that look at vectors themselves, with a progress bar and a count of what was cut."""

from collections.abc import Sequence

import numpy as np

from ragvec.encoder.protocol import TextEncoder
from ragvec.progress import progress_bar

_TEXTS = 2048  # encoded between two steps of the progress bar


def encode_texts(
    encoder: TextEncoder, texts: Sequence[str], instruction: str, label: str, *, normalize: bool = True, show: bool = False
) -> tuple[np.ndarray, int]:
    """Vectors (n, d) float32 and how many texts were truncated."""
    vectors, truncated = [], 0
    with progress_bar(label, total=len(texts), unit="texts", show=show) as bar:
        for start in range(0, len(texts), _TEXTS):
            encoded = encoder.encode_counted(texts[start : start + _TEXTS], instruction=instruction, normalize=normalize)
            vectors.append(encoded.vectors)
            truncated += int(encoded.truncated.sum())
            bar.update(len(encoded.vectors))
    return np.concatenate(vectors), truncated


def normalizes_itself(encoder: TextEncoder) -> bool:
    """Whether the encoder's vectors have length 1 in its own library.

    The reference pools and stops there, and its published classification and clustering scores are of such vectors;
    sentence-transformers models (attention "unchanged") normalise.
    """
    return encoder.settings.attention == "unchanged"
