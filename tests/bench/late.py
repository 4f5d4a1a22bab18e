"""What the encoder's token vectors add to hybrid search, by their share in the score: `python -m tests.bench.late FOLDER…`.

nDCG@10 of a hundred queries of each BEIR folder: the first 30 hits as they are, and scored again with each share.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from ragvec import Encoder, Index, Retriever
from ragvec.corpus.passages import CorpusOptions
from ragvec.evaluate.corpora import corpus_folder, dense_index
from ragvec.evaluate.sets import RetrievalSet, read_retrieval_set
from ragvec.metrics import mean_figures, score_queries
from ragvec.retrieve import rerank

DEPTH = 30
METRIC = "nDCG@10"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--encoder", help="default: the bundled one")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 0.2, 0.3, 0.5, 1.0])
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    encoder = Encoder.load(given.encoder, max_length=given.max_length)
    print(f"| | hybrid | {' | '.join(f'share {share:g}' for share in given.shares)} |")
    print("|---" * (len(given.shares) + 2) + "|")
    for folder in given.folders:
        data = read_retrieval_set(folder, "test")
        asked = sorted(data.queries)
        random.Random(0).shuffle(asked)
        figures = measure(data, asked[: given.queries], encoder, given.shares, given.cache)
        print(f"| {data.name} | {' | '.join(f'{figure:.4f}' for figure in figures)} |", flush=True)


def measure(data: RetrievalSet, asked: list[str], encoder: Encoder, shares: list[float], cache: Path | None) -> list[float]:
    """The figure of hybrid search, and that of each share; token vectors are made once a query."""
    qrels = {name: data.qrels[name] for name in asked}
    texts = [data.queries[name] for name in asked]
    kept: dict[str, object] = {}
    assert data.corpus is not None
    with corpus_folder(data.corpus, cache) as folder:
        path, _ = dense_index(data.corpus, encoder, folder, cut=CorpusOptions(), show=False)
        with Index.open(path) as index:
            plain = Retriever(index, encoder)
            runs = [plain.retrieve_many(texts, DEPTH)]
            scored = rerank.maxsim

            def once(encoder: Encoder, query: str, texts: Sequence[str], *, instruction: str | None = None) -> object:
                if query not in kept:
                    kept[query] = scored(encoder, query, texts, instruction=instruction)
                return kept[query]

            for share in shares:
                with patch.object(rerank, "maxsim", once), patch.object(rerank, "MAXSIM_SHARE", share):
                    runs.append(plain.retrieve_many(texts, DEPTH, rerank=rerank.MAXSIM, rerank_depth=DEPTH))
    found = [{name: {hit.doc_id: hit.score for hit in hits} for name, hits in zip(asked, run, strict=True)} for run in runs]
    return [mean_figures(score_queries(qrels, run, [METRIC]))[METRIC] for run in found]


if __name__ == "__main__":
    main()
