"""What can be seen of a run: evaluation while it trains, the best weights kept, summary, plot and card."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from ragvec import Encoder
from ragvec.errors import RagvecError
from ragvec.evaluate.retrieval import evaluate_retrieval
from ragvec.evaluate.sets import read_retrieval_set
from ragvec.evaluate.similarity import evaluate_similarity
from ragvec.train import record
from tests.training import LONG_TEXTS, losses, run, vectors, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """As ever, with an STS table and a BEIR folder."""
    folder = write_data(tmp_path_factory.mktemp("data"))
    draw = np.random.default_rng(0)
    rows = [f"{draw.uniform(0, 5):.2f}\t{LONG_TEXTS[row]}\t{LONG_TEXTS[-row - 1]}" for row in range(16)]
    (folder / "sts.tsv").write_text("score\tsentence1\tsentence2\n" + "\n".join(rows) + "\n")
    beir = folder / "beir"
    (beir / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{row}", "title": f"T{row}", "text": text} for row, text in enumerate(LONG_TEXTS)]
    queries = [{"_id": f"q{row}" if row else "d0", "text": LONG_TEXTS[row]} for row in range(8)]  # d0: BEIR leaves itself out
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    (beir / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    qrels = [f"{query['_id']}\td{(3 * row + step) % 36}\t1" for row, query in enumerate(queries) for step in range(4)]
    (beir / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(qrels) + "\n")
    return folder


def evaluated(folder: Path, data: Path, name: str) -> float:
    encoder = Encoder.load(folder, device="cpu", dtype="float32")
    if name == "beir":
        found = evaluate_retrieval(read_retrieval_set(data / "beir", "dev"), encoder, metrics=("nDCG@10",))
        return found.figures["nDCG@10"]
    return evaluate_similarity(data / "sts.tsv", encoder).figures["spearman"]


@pytest.mark.parametrize(("objective", "name", "metric"), [("mntp", "sts.tsv", "spearman"), ("supervised", "beir", "nDCG@10")])
def test_the_best_weights_are_the_result(objective, name, metric, tiny_decoder, data, tmp_path):
    """The figures are what `ragvec eval` finds on the result, which is that of the best step and not of the last."""
    lines = []
    keys = {"eval_dataset": str(data / name), "eval_steps": 2, "max_steps": 9, "learning_rate": 0.05, "lora_dropout": 0.0}
    summary = run(objective, tiny_decoder, data, tmp_path / "out", report=lines.append, save_merged=True, **keys)
    figures = {entry["step"]: entry[metric] for entry in summary["log"] if metric in entry}
    assert list(figures) == [2, 4, 6, 8, 9] and len(set(figures.values())) > 1
    best = max(figures, key=figures.get)
    assert summary["best"] == {"step": best, "metric": metric, "value": figures[best]}
    assert evaluated(tmp_path / "out", data, name) == pytest.approx(figures[best], abs=2e-3)
    assert any(f"step {best}/9  {metric} {figures[best]:.4f}  (the best so far)" in line for line in lines)
    assert f"the best weights are those of step {best}: {metric} {figures[best]:.4f}" in lines
    if best != 9:
        run(objective, tiny_decoder, data, tmp_path / "best", stop_after_n_steps=best, save_merged=True,
            **{**keys, "eval_dataset": None})  # fmt: skip
        np.testing.assert_allclose(vectors(tmp_path / "out"), vectors(tmp_path / "best"), atol=1e-6)


def test_mntp_is_evaluated_with_the_prompt_of_the_encoder_that_it_makes(tiny_decoder, data, tmp_path):
    """A chat template, known by the base model's name, is read while training and stored in the result."""
    base = tmp_path / "meta-llama" / "Llama-2-7b-chat-hf"
    shutil.copytree(tiny_decoder, base)
    summary = run("mntp", base, data, tmp_path / "out", eval_dataset=str(data / "sts.tsv"), max_steps=1, save_merged=True)
    assert json.loads((tmp_path / "out" / "ragvec.json").read_text())["template"]["prefix"] == "[INST] "
    assert evaluated(tmp_path / "out", data, "sts.tsv") == pytest.approx(summary["best"]["value"], abs=1e-6)
    plain = run("mntp", tiny_decoder, data, tmp_path / "plain", eval_dataset=str(data / "sts.tsv"), max_steps=1)
    assert plain["best"]["value"] != summary["best"]["value"]


def test_a_resumed_run_keeps_the_best_of_before(tiny_decoder, data, tmp_path):
    keys = {"eval_dataset": str(data / "sts.tsv"), "eval_steps": 1, "max_steps": 6, "learning_rate": 0.05}

    def interrupt(line: str) -> None:
        if line.startswith("step 3/6  loss"):
            os.kill(os.getpid(), signal.SIGINT)

    whole = run("mntp", tiny_decoder, data, tmp_path / "whole", **keys)
    with pytest.raises(KeyboardInterrupt):
        run("mntp", tiny_decoder, data, tmp_path / "parts", report=interrupt, **keys)
    part = json.loads((tmp_path / "parts" / "training.json").read_text())
    assert 0 < part["tokens_seen"] < whole["tokens_seen"]
    assert part["steps_done"] < 6 and part["best"]["step"] <= part["steps_done"]
    rest = run("mntp", tiny_decoder, data, tmp_path / "parts", resume=True, **keys)
    assert rest["best"] == whole["best"] and losses(rest) == losses(whole)
    assert rest["tokens_seen"] == whole["tokens_seen"] and rest["seconds"] > part["seconds"]  # of both parts
    assert np.array_equal(vectors(tmp_path / "parts"), vectors(tmp_path / "whole"))


def test_a_run_that_overwrites_another_does_not_end_with_its_best_weights(tiny_decoder, data, tmp_path):
    """The second run learns next to nothing, so it is no better than the first."""
    keys = {"eval_dataset": str(data / "sts.tsv"), "max_steps": 2, "save_merged": True}
    run("mntp", tiny_decoder, data, tmp_path / "out", learning_rate=0.05, **keys)
    for folder in ("out", "fresh"):
        run("mntp", tiny_decoder, data, tmp_path / folder, learning_rate=1e-9, overwrite_output_dir=True, **keys)
    np.testing.assert_array_equal(vectors(tmp_path / "out"), vectors(tmp_path / "fresh"))


def test_evaluation_changes_nothing_of_the_training(tiny_decoder, data, tmp_path):
    """Dropout included: the random numbers of the steps are the same."""
    plain = run("mntp", tiny_decoder, data, tmp_path / "plain")
    watched = run("mntp", tiny_decoder, data, tmp_path / "watched", eval_dataset=str(data / "sts.tsv"), eval_steps=1,
                  validation_file=str(data / "texts.json"))  # fmt: skip
    assert losses(watched) == losses(plain)
    assert all("eval_loss" in entry and "spearman" in entry for entry in watched["log"] if "loss" not in entry)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"eval_dataset": "nowhere"}, "no data set nowhere"),
        ({"eval_split": "test"}, "beir has no split 'test': choose `split` from dev"),
        ({"report_to": ["neptune"]}, r"report_to: neptune is not installed here \(installed:"),
    ],
)
def test_what_cannot_be_measured_is_said_before_training(keys, message, tiny_decoder, data, tmp_path):
    with pytest.raises(RagvecError, match=message):
        run("mntp", tiny_decoder, data, tmp_path / "out", **{"eval_dataset": str(data / "beir"), **keys})


def test_summary_plot_and_card(tiny_decoder, data, tmp_path):
    pytest.importorskip("matplotlib")
    summary = run("supervised", tiny_decoder, data, tmp_path / "out", eval_dataset=str(data / "sts.tsv"), eval_steps=2,
                  lora_r=4, loss_scale=50)  # fmt: skip
    written = json.loads((tmp_path / "out" / "training.json").read_text())
    assert written == json.loads(json.dumps(summary)) and written["steps_done"] == 3
    assert (tmp_path / "out" / "training.png").read_bytes().startswith(b"\x89PNG")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: ragvec\n") and "contrastive learning on pairs with hard negatives" in card
    assert "This folder holds an adapter alone." in card and "`ragvec export FOLDER --to ragvec -o WHOLE`" in card
    assert "| steps | 3 |" in card and f"(step {summary['best']['step']}, whose weights these are)" in card
    chosen = json.loads(card.split("```json\n")[1].split("```")[0])
    assert chosen["lora_r"] == 4 and "loss_scale" not in chosen and "output_dir" not in chosen


def test_the_record_is_there_with_the_first_checkpoint(tiny_decoder, data, tmp_path):
    seen = []

    def look(line: str) -> None:
        if line.startswith("step 2/"):
            seen.append(json.loads((tmp_path / "out" / "training.json").read_text())["steps_done"])

    run("mntp", tiny_decoder, data, tmp_path / "out", save_steps=1, report=look)
    assert seen == [1]


def test_a_checkpoint_before_the_first_logged_step_has_a_plot_without_curves(tiny_decoder, data, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(record, "_SECONDS_BETWEEN_PLOTS", 0)
    run("mntp", tiny_decoder, data, tmp_path / "out", max_steps=2, logging_steps=2, save_steps=1)  # a warning would be an error
    assert (tmp_path / "out" / "training.png").stat().st_size > 1000
