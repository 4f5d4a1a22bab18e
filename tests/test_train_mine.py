"""Mined negatives are the nearest texts that are no answers, by brute force; likely answers are passed over."""

import json
from pathlib import Path

import numpy as np
import pytest

from ragvec import Document, Encoder, Index
from ragvec.cli.main import main
from ragvec.errors import RagvecError
from ragvec.train.mine import mine
from tests.training import LONG_TEXTS, run, write_data


@pytest.fixture(scope="module")
def encoder(tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder, device="cpu", dtype="float32")


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Two rows of one query, so that each positive is an answer to both."""
    rows = [{"query": LONG_TEXTS[row % 9], "positive": LONG_TEXTS[row + 12], "source": "set"} for row in range(12)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(encoder, rows: list[dict], texts: list[str], *, count: int, depth: int, margin: float):
    """By brute force: kept (text, score) of each row, and how many candidates were likely answers."""
    documents, kept, likely = encoder.encode_documents(texts), [], 0
    for row in rows:
        query = encoder.encode_queries([row["query"]])[0]
        own = float(query @ encoder.encode_documents([row["positive"]])[0])
        answers = {row["query"]} | {other["positive"] for other in rows if other["query"] == row["query"]}
        scores = documents @ query
        found = [(texts[place], float(scores[place])) for place in np.argsort(-scores, kind="stable")[:depth]]
        found = [one for one in found if one[0] not in answers]
        far = [one for one in found if one[1] <= own - margin * abs(own)]
        likely += len(found) - len(far)
        kept.append(far[:count])
    return kept, likely


@pytest.mark.parametrize("margin", [0.0, 0.03])
def test_negatives_are_the_nearest_that_are_no_answers(margin, encoder, pairs, tmp_path):
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        index.add(Document(str(row), text) for row, text in enumerate(LONG_TEXTS))
    mined = mine([str(pairs)], tmp_path / "out.jsonl", index=tmp_path / "index", encoder=encoder, negatives=3, depth=20,
                 margin=margin)  # fmt: skip
    rows = read(tmp_path / "out.jsonl")
    kept, likely = expected(encoder, read(pairs), LONG_TEXTS, count=3, depth=20, margin=margin)
    assert [row["negatives"] for row in rows] == [[text for text, _ in one] for one in kept]
    for row, one in zip(rows, kept, strict=True):
        np.testing.assert_allclose(row["scores"][1:], [score for _, score in one], atol=1e-3)  # the index holds float16
        assert len(row["scores"]) == 1 + len(row["negatives"]) and row["source"] == "set"
    assert (mined.rows, mined.negatives, mined.likely_answers) == (12, sum(map(len, kept)), likely)
    assert mined.without == sum(not one for one in kept) and likely > 0 and any(kept)


def test_without_an_index_candidates_are_the_pairs_own_texts(encoder, pairs, tmp_path):
    mine([str(pairs)], tmp_path / "out.jsonl", encoder=encoder, negatives=5, margin=0.0)
    own = {row["positive"] for row in read(pairs)}
    found = [text for row in read(tmp_path / "out.jsonl") for text in row["negatives"]]
    assert found and set(found) <= own


def test_what_was_mined_trains_both_ways(encoder, tiny_decoder, pairs, tmp_path):
    mine([str(pairs)], tmp_path / "mined.jsonl", encoder=encoder, margin=0.0)
    rows = [row for row in read(tmp_path / "mined.jsonl") if row["negatives"]]
    (tmp_path / "mined.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for objective in ("supervised", "distill"):
        summary = run(objective, tiny_decoder, write_data(tmp_path), tmp_path / objective, max_steps=1,
                      train_file=str(tmp_path / "mined.jsonl"), teacher_vectors=[], instruction="")  # fmt: skip
        assert np.isfinite(summary["last_loss"]) and summary["plan"]["examples"] == len(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "0 negatives out of 100 candidates: ask for at least one"),
        ({"negatives": 9, "depth": 8}, "9 negatives out of 8 candidates"),
        ({"margin": 1.0}, "the margin is 1.0: choose from 0 to below 1"),
    ],
)
def test_options_out_of_range(options, message, encoder, pairs, tmp_path):
    with pytest.raises(RagvecError, match=message):
        mine([str(pairs)], tmp_path / "out.jsonl", encoder=encoder, **options)
    with pytest.raises(RagvecError, match="there is no folder .*none to write out.jsonl into: make it first"):
        mine([str(pairs)], tmp_path / "none" / "out.jsonl", encoder=encoder)


def test_the_command(tiny_decoder, pairs, tmp_path, capsys):
    arguments = ["mine", str(pairs), "-o", str(tmp_path / "out.jsonl"), "-e", str(tiny_decoder), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--margin", "0"])
    out = capsys.readouterr()
    assert (
        end.value.code == 0
        and out.out.startswith(f"{tmp_path / 'out.jsonl'}: 12 pairs, ")
        and len(read(tmp_path / "out.jsonl")) == 12
    )
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'out.jsonl'} is there already: choose another file, or remove it\n"
