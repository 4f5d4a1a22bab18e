"""`ragvec plan`: what it predicts is within a quarter of what then happens."""

import json
import random
import subprocess
import sys

import pytest

from ragvec import Encoder
from ragvec.corpus.passages import CorpusOptions, cut_for, open_documents
from ragvec.errors import WrongUsage
from ragvec.ingest import encode_corpus
from ragvec.ingest.build import build
from ragvec.ingest.plan import draw, folder_bytes, plan_corpus
from ragvec.records import Document
from tests.test_cli_encode import ragvec

WORDS = ["plants", "make", "food", "from", "light", "서울은", "대한민국의", "수도이다", "the", "quick", "brown", "fox"]


@pytest.fixture
def corpus(tmp_path):
    """Documents of mixed lengths, the long ones last."""
    lengths = sorted(min(int(random.Random(i).lognormvariate(3, 0.8)) + 3, 250) for i in range(1500))
    rows = ({"_id": i, "text": " ".join(random.Random(i).choices(WORDS, k=n)), "n": i} for i, n in enumerate(lengths))
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def close(predicted: float, actual: float) -> bool:
    return abs(predicted - actual) <= 0.25 * actual


@pytest.mark.parametrize("reading", [CorpusOptions(), CorpusOptions(passage_tokens=64, overlap=8)])
def test_sizes_are_within_a_quarter_of_what_then_happens(tmp_path, tiny_decoder, corpus, reading):
    encoder = Encoder.load(tiny_decoder, device="cpu", max_length=128)
    plan = plan_corpus(corpus, encoder, reading=reading, sample=300)
    report = encode_corpus(cut_for(open_documents(corpus, reading), reading, encoder), encoder, tmp_path / "s")
    assert plan.documents == 1500 and plan.sampled < report.rows / 2
    build(tmp_path / "s", tmp_path / "i")
    predicted = (plan.passages, plan.tokens, plan.shards_bytes, plan.index_bytes)
    actual = (report.rows, report.tokens, report.bytes, folder_bytes(tmp_path / "i"))
    assert all(map(close, predicted, actual)), (predicted, actual)
    if reading.passage_tokens is None:
        assert plan.passages == 1500 and close(plan.truncated, report.truncated)


def test_what_a_slow_machine_tries_is_drawn_from_the_whole_corpus(tiny_decoder, corpus):
    """The sample's first passages are the shortest: no 32 of these would be over the limit."""
    encoder = Encoder.load(tiny_decoder, device="cpu", max_length=128)
    plan = plan_corpus(corpus, encoder, sample=300, sample_seconds=1e-6)
    assert plan.sampled == 32 and plan.truncated > 150


MEASURE = """
import json, resource, sys
from ragvec import Encoder
from ragvec.errors import WrongUsage
from ragvec.ingest import encode_corpus
from ragvec.corpus.passages import CorpusOptions, cut_for, open_documents
from ragvec.ingest.plan import plan_corpus, peak_memory
encoder = Encoder.load(sys.argv[1], device="cpu", max_length=128)
if sys.argv[4] == "plan":
    plan = plan_corpus(sys.argv[2], encoder, sample=300)
    print(json.dumps([plan.seconds, plan.memory_bytes]))
else:
    passages = cut_for(open_documents(sys.argv[2], CorpusOptions()), CorpusOptions(), encoder)
    report = encode_corpus(passages, encoder, sys.argv[3])
    print(json.dumps([report.seconds, peak_memory()]))
"""


@pytest.mark.parametrize("what", ["memory", pytest.param("seconds", marks=pytest.mark.slow)])
def test_memory_and_time_are_within_a_quarter_of_what_then_happens(tmp_path, tiny_decoder, corpus, what):
    figures = []
    for mode in ("plan", "encode"):
        words = [sys.executable, "-c", MEASURE, str(tiny_decoder), str(corpus), str(tmp_path / "s"), mode]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        figures.append(json.loads(out.splitlines()[-1])[what == "memory"])
    assert close(*figures), figures


def test_several_machines_share_the_time(tmp_path, corpus, tiny_decoder, monkeypatch):
    encoder = Encoder.load(tiny_decoder, device="cpu")
    plan = plan_corpus(corpus, encoder, sample=50, devices=2, nodes=3)
    assert plan.devices == 6 and plan.estimated == ""
    assert plan.seconds >= plan.tokens / plan.tokens_per_s
    with pytest.raises(WrongUsage, match="is bound by other things than a GPU's speed"):
        plan_corpus(corpus, encoder, nodes=2, gpus=8)
    monkeypatch.setattr("ragvec.ingest.estimate.LEAST_WEIGHTS", 1)
    plan = plan_corpus(corpus, encoder, sample=50, nodes=2, gpus=8)
    weights = sum(weight.numel() for name, weight in encoder.model.named_parameters() if "embed" not in name)
    assert plan.devices == 16 and plan.tokens_per_s == pytest.approx(16 * 0.5 * 989e12 / (2 * weights))
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_s, rel=0.01)
    assert plan.estimated == "50% of an H100's 989 TFLOP/s, not measured"


def test_documents_are_drawn_evenly_from_all_and_stay_in_order():
    documents = [Document(str(i), "") for i in range(10_000)]
    count, drawn = draw(iter(documents), 1000)
    numbers = [int(document.doc_id) for document in drawn]
    assert count == 10_000 and numbers == sorted(set(numbers)) and len(numbers) == 1000
    assert 4700 < sum(numbers) / 1000 < 5300
    assert draw(iter(documents[:5]), 1000) == (5, documents[:5])


def test_the_command_prints_lines_or_json(capsys, tiny_decoder, tmp_path, corpus):
    code, out, err = ragvec(capsys, "plan", corpus, "-e", tiny_decoder, "--max-length", 128, "--format", "table")
    assert (code, err) == (0, "") and out.startswith("corpus   1,500 documents, 1,500 passages, ")
    assert [line.split(" ")[0] for line in out.splitlines()] == ["corpus", "time", "memory", "shards", "index", ""]
    code, out, _ = ragvec(capsys, "plan", corpus, "-e", tiny_decoder, "--sample-seconds", 0.1)
    assert code == 0 and json.loads(out)["documents"] == 1500
    code, out, _ = ragvec(capsys, "plan", corpus, "-e", tiny_decoder, "--sample-seconds", "inf")
    assert code == 0 and json.loads(out)["sampled"] == 1000
    code, _, err = ragvec(capsys, "plan", "-", "-e", tiny_decoder)
    assert (code, err) == (2, "error: standard input can be read only once: save it to a file, and plan that\n")
