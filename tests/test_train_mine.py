"""Mined negatives are the nearest texts that are no answers, by brute force; likely answers are passed over."""

import json
from pathlib import Path

import numpy as np
import pytest

from ragvec import Document, Encoder, Index
from ragvec.cli.main import main
from ragvec.errors import RagvecError
from ragvec.train.data import read_pairs
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


def test_what_texts_are_read_after_stays_with_them(encoder, tmp_path):
    """FlagEmbedding's prompt, by which the row's query is encoded; GritLM's instructions; titles, where they have a place."""
    rows = [
        {"query": text, "positive": other, "prompt": "find:"}
        for text, other in zip(LONG_TEXTS, LONG_TEXTS[12:18], strict=False)
    ]
    grit = [{"query": ["ask:", text], "pos": [["tell:", LONG_TEXTS[20]]]} for text in LONG_TEXTS[6:8]]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *grit]))
    mine([str(tmp_path / "pairs.jsonl")], tmp_path / "out.jsonl", encoder=encoder, negatives=2, margin=0)
    made = read(tmp_path / "out.jsonl")
    assert [row.get("prompt") for row in made] == ["find:"] * 6 + ["ask:"] * 2
    own = (
        encoder.encode_queries([made[0]["query"]], instruction="find:") @ encoder.encode_documents([made[0]["positive"]]).T
    ).item()
    assert made[0]["scores"][0] == pytest.approx(own, abs=1e-4)
    assert made[6]["positive"] == [["tell:", LONG_TEXTS[20]]] and all(lead == "tell:" for lead, _ in made[6]["negatives"])
    [pair] = [pair for pair, _ in read_pairs([str(tmp_path / "out.jsonl")]) if pair.query == LONG_TEXTS[6]]
    assert (pair.prompt, pair.document_prompt, pair.positives) == ("ask:", "tell:", (LONG_TEXTS[20],))


def test_titles_stay_apart_where_the_index_has_a_place_for_them(encoder, tmp_path):
    documents = [Document(str(n), text, title=f"title {n}") for n, text in enumerate(LONG_TEXTS[:8])]
    rows = [{"query": "fox", "positive": {"title": "title 0", "text": LONG_TEXTS[0]}}]
    (tmp_path / "pairs.jsonl").write_text(json.dumps(rows[0]))
    for name, instruction in (("joined", ""), ("apart", "title: {title|none} | text: {text}")):
        with Index.create(tmp_path / name, encoder=encoder, document_instruction=instruction) as index:
            index.add(documents)
        mine([str(tmp_path / "pairs.jsonl")], tmp_path / f"{name}.jsonl", index=tmp_path / name, encoder=encoder, negatives=1)
    [joined], [apart] = (read(tmp_path / f"{name}.jsonl") for name in ("joined", "apart"))
    assert joined["positive"] == f"title 0 {LONG_TEXTS[0]}" and isinstance(joined["negatives"][0], str)
    assert apart["positive"] == rows[0]["positive"] and set(apart["negatives"][0]) == {"title", "text"}
