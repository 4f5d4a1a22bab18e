"""Hard negatives for contrastive training: what an encoder finds for a query, less its answers and what likely is one."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from ragvec.encoder.instruction import parse
from ragvec.errors import RagvecError, WrongUsage
from ragvec.files import replacing
from ragvec.index import Index
from ragvec.progress import progress_bar
from ragvec.records import Document, Titled
from ragvec.train.data import read_pairs
from ragvec.train.data.pairs import Pair

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

_QUERIES = 256  # encoded and searched together


@dataclass(slots=True)
class Mined:
    """What came of it: rows written, negatives in them, candidates passed over as likely answers, rows left without any."""

    rows: int = 0
    negatives: int = 0
    likely_answers: int = 0
    without: int = 0


class _Wanted(NamedTuple):
    pair: Pair
    positive: str
    source: str


def mine(files: Sequence[str], output: Path, *, index: Path | None = None, encoder: "Encoder | None" = None,
         negatives: int = 7, depth: int = 100, margin: float = 0.05, instruction: str | None = None,
         offline: bool = False, show_progress: bool = False) -> Mined:  # fmt: skip
    """Write pairs with the hardest texts that are not their answers: query, positive, negatives, scores, source, prompt.

    files        pairs as `ragvec train supervised` reads them; a row's own negatives are among the candidates
    index        where candidates are looked for; None = among the texts of the files themselves, with `encoder`
    negatives    of each row, the nearest first, out of `depth` candidates
    margin       a candidate that scores above (1 − margin) × the positive's score is likely an answer too and passed over
                 (NV-Retriever, Moreira et al. 2024: 0.05); so is a text that is word for word a positive or the query
    instruction  of the queries of rows without a prompt; None = the encoder's own
    offline      never ask the hub for the encoder that the index names
    The scores are cosines, the positive's first: what `ragvec train distill` reads as a teacher's. What a row's texts are read
    after stays with it; titles do where the index's document instruction has a place for them.
    Raises RagvecError for files or options that can't be used.
    """
    _check(output, negatives, depth, margin)
    pairs = read_pairs(files)
    answers: dict[str, set[str]] = defaultdict(set)
    for pair, _ in pairs:
        answers[pair.query] |= {pair.query, *pair.positives}
    wanted = [_Wanted(pair, positive, source) for pair, source in pairs for positive in pair.positives]
    mined = Mined()
    with (
        _candidates(index, encoder, pairs, offline) as candidates,
        replacing(output) as file,
        progress_bar("mining", total=len(wanted), unit="rows", show=show_progress) as bar,
    ):
        for start in range(0, len(wanted), _QUERIES):
            block = wanted[start : start + _QUERIES]
            for row in _mine_block(
                block, candidates, answers, mined, count=negatives, depth=depth, margin=margin, instruction=instruction
            ):
                file.write(orjson.dumps(row) + b"\n")
            bar.update(len(block))
    return mined


def _mine_block(block: list[_Wanted], index: Index, answers: dict[str, set[str]], mined: Mined, *, count: int,
                depth: int, margin: float, instruction: str | None) -> Iterator[dict[str, Any]]:  # fmt: skip
    queries = _query_vectors([one.pair for one in block], index, instruction)
    lead = index.settings.document_instruction
    positives = index.encoder.encode_documents([one.positive for one in block], instruction=lead)
    titled = parse(lead).titled is not None
    result = index.search(queries, depth)
    for one, own, ids, scores in zip(block, (queries * positives).sum(axis=1), result.ids, result.scores, strict=True):
        there = ids >= 0
        kept: list[tuple[str, float]] = []
        for passage, score in zip(index.passages(ids[there].tolist()), scores[there].tolist(), strict=True):
            if passage.encoded_text in answers[one.pair.query]:
                continue
            if score > own - margin * abs(own):
                mined.likely_answers += 1
            elif len(kept) < count:
                kept.append((passage.encoded_text, score))
        mined.rows, mined.negatives, mined.without = mined.rows + 1, mined.negatives + len(kept), mined.without + (not kept)
        [positive], texts = (_written(part, one.pair, titled) for part in ([one.positive], [text for text, _ in kept]))
        yield {
            "query": one.pair.query,
            "positive": positive if one.pair.document_prompt is None else [positive],
            "negatives": texts,
            "scores": [round(float(score), 6) for score in (own, *(score for _, score in kept))],
            "source": one.source,
            **({} if one.pair.prompt is None else {"prompt": one.pair.prompt}),
        }


def _query_vectors(pairs: list[Pair], index: Index, instruction: str | None) -> np.ndarray:
    """Vectors (n, d) float32 of queries, each read after its row's prompt, if it has one."""
    found: np.ndarray = np.empty((len(pairs), index.settings.dimension), np.float32)
    for prompt in {pair.prompt for pair in pairs}:
        rows = [row for row, pair in enumerate(pairs) if pair.prompt == prompt]
        lead = instruction if prompt is None else prompt
        found[rows] = index.encoder.encode_queries([pairs[row].query for row in rows], instruction=lead)
    return found


def _written(texts: Sequence[str], pair: Pair, titled: bool) -> list[Any]:
    """Documents as `read_pair` reads them: after GritLM's instruction, as title and text, or as strings."""
    if pair.document_prompt is not None:
        return [[pair.document_prompt, text] for text in texts]
    return [_document(text) if titled and isinstance(text, Titled) else text for text in texts]


def _document(text: Titled) -> dict[str, str]:
    return dict(zip(("title", "text"), text.parts, strict=True))


@contextmanager
def _candidates(index: Path | None, encoder: "Encoder | None", pairs: list[tuple[Pair, str]], offline: bool) -> Iterator[Index]:
    """The index to search: the one named, or one of the pairs' own texts that is gone afterwards."""
    if index is not None:
        with Index.open(index, encoder=encoder, offline=offline) as opened:
            if not opened.settings.normalized:
                raise WrongUsage(f"{index} holds vectors that are not normalised: the margin is one of cosines")
            yield opened
        return
    if encoder is None:
        raise WrongUsage("candidates from the texts themselves need an encoder: pass one, or an index")
    texts = dict.fromkeys(text for pair, _ in pairs for text in (*pair.positives, *pair.negatives))
    with (
        tempfile.TemporaryDirectory(prefix="ragvec-mine-") as folder,
        Index.create(Path(folder) / "index", encoder=encoder, faiss_key="exact") as made,
    ):
        made.add(
            Document(str(number), text.parts[1], text.parts[0]) if isinstance(text, Titled) else Document(str(number), text)
            for number, text in enumerate(texts)
        )
        yield made


def _check(output: Path, negatives: int, depth: int, margin: float) -> None:
    if not 1 <= negatives <= depth:
        raise WrongUsage(f"{negatives} negatives out of {depth} candidates: ask for at least one, and no more than candidates")
    if not 0 <= margin < 1:
        raise WrongUsage(f"the margin is {margin}: choose from 0 to below 1, a share of the positive's score, such as 0.05")
    if output.exists():
        raise RagvecError(f"{output} is there already: choose another file, or remove it")
    if not output.parent.is_dir():
        raise RagvecError(f"there is no folder {output.parent} to write {output.name} into: make it first")
