"""Named prompts of sentence-transformers folders: kept, found by name, and refused where there is none."""

import json

import numpy as np
import pytest

from ragvec import Encoder
from ragvec.encoder.sources import named_prompt
from ragvec.errors import NotFound
from ragvec.serve.embedding_routes import own_instruction
from ragvec.shards import Shards
from tests.layouts import save_layout
from tests.test_cli_encode import ragvec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_layout("e5-mistral", tmp_path_factory.mktemp("named") / "e5-mistral")


def test_prompts_are_kept_and_found_by_name(folder, tmp_path):
    encoder = Encoder.load(folder, device="cpu", dtype="float32")
    assert encoder.settings.prompts == {"web_search_query": "Instruct: find\nQuery: "}
    encoder.save(tmp_path / "own")
    assert named_prompt(str(tmp_path / "own"), "web_search_query") == "Instruct: find\nQuery: "
    assert Encoder.load(tmp_path / "own", device="cpu").settings.prompts == encoder.settings.prompts
    assert named_prompt(None, "query") == Encoder.load(device="cpu").settings.query_instruction
    with pytest.raises(NotFound, match="no prompt 'x': it has document, query, web_search_query"):
        named_prompt(str(folder), "x")
    assert own_instruction(encoder.settings, "web_search_query") == "Instruct: find\nQuery: "
    assert own_instruction(encoder.settings, None) == ""


def test_commands_take_a_prompts_name(folder, tmp_path, capsys):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"_id": "1", "text": "fox"}))
    named = ["--prompt-name", "web_search_query"]
    shards = [corpus, "-o", tmp_path / "s", "-e", folder, "--device", "cpu", "--dtype", "float32", "--vector-dtype", "float32"]
    assert ragvec(capsys, "encode", *shards, *named)[0] == 0
    [(_, vectors)] = Shards.open(tmp_path / "s").blocks(8)
    encoder = Encoder.load(folder, device="cpu", dtype="float32")
    expected = encoder.encode_queries(["fox"], instruction="Instruct: find\nQuery: ")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    index = ["index", corpus, "-o", tmp_path / "i", "-e", folder, "--device", "cpu"]
    assert ragvec(capsys, *index, "--prompt-name", "document")[0] == 0
    search = ["search", "fox", "-i", tmp_path / "i", "--device", "cpu", "--mode", "dense"]
    scores = [
        json.loads(ragvec(capsys, *search, *options)[1].splitlines()[0])["score"]
        for options in (named, ["--instruction", "Instruct: find\nQuery: "], ["--prompt-name", "document"])
    ]
    assert scores[0] == scores[1] != scores[2] == pytest.approx(1, abs=0.01)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps({"query": text, "positive": text}) + "\n" for text in ("fox", "hen", "owl", "cat", "bat"))
    )
    mined = ["mine", pairs, "-o", tmp_path / "m.jsonl", "-e", folder, "--device", "cpu"]
    assert ragvec(capsys, *mined, "--prompt-name", "web_search_query")[0] == 0
    assert ragvec(capsys, *mined, "--prompt-name", "nothing")[2].startswith("error: the encoder has no prompt 'nothing'")
    sts = tmp_path / "sts.tsv"
    sts.write_text("score\tsentence1\tsentence2\n" + "".join(f"{n}\tfox {n}\thens {n * n}\n" for n in range(5)))
    both = ["eval", sts, "-e", folder, "--device", "cpu", "--no-baselines", "--format", "json", *named]
    records = [json.loads(line) for line in ragvec(capsys, *both, "--instruction", "x")[1].splitlines()]
    assert [record["instruction"] for record in records] == ["x", "Instruct: find\nQuery: "]
    assert "it names a prompt of one encoder" in ragvec(capsys, *both, "-e", folder)[2]
    code, _, err = ragvec(capsys, *search, *named, "--instruction", "x")
    assert (code, err) == (2, "error: an instruction and --prompt-name say the same: give one of them\n")
