"""Similarity of sentence pairs: the rank correlation of cosines with people's scores."""

from pathlib import Path

from ragvec.encoder.protocol import TextEncoder
from ragvec.evaluate.result import Evaluation
from ragvec.evaluate.sets import read_similarity_set
from ragvec.evaluate.vectors import encode_texts
from ragvec.metrics import import_scipy, spearman


def evaluate_similarity(path: Path, encoder: TextEncoder, *, instruction: str = "", show_progress: bool = False) -> Evaluation:
    """Spearman's correlation on an STS table; the instruction, if any, is put before both sentences.

    values  similarity (the cosine) and score (people's) of each pair, by its number
    """
    import_scipy()  # before minutes are spent on encoding
    data = read_similarity_set(path)
    left, cut_left = encode_texts(encoder, data.left, instruction, "pairs, left", show=show_progress)
    right, cut_right = encode_texts(encoder, data.right, instruction, "pairs, right", show=show_progress)
    cosines = (left * right).sum(axis=1).tolist()
    values = {
        str(row): {"similarity": cosine, "score": score}
        for row, (cosine, score) in enumerate(zip(cosines, data.scores, strict=True), 1)
    }
    return Evaluation(
        dataset=path.stem,
        split=None,
        task="similarity",
        encoder=encoder.source,
        fingerprint=encoder.fingerprint,
        instruction=instruction,
        figures={"spearman": spearman(cosines, data.scores)},
        counts={"pairs": len(data.scores), "truncated": cut_left + cut_right},
        values=values,
    )
