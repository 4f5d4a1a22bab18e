"""Whole runs on tiny models: every objective ends in a folder that loads, stages stack, and nothing of a run is lost."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from ragvec import Encoder
from ragvec.cli.main import main
from ragvec.encoder.settings import QUERY_INSTRUCTION
from ragvec.errors import RagvecError
from ragvec.train import train
from ragvec.train.prepare import prepare
from ragvec.train.recipe import OBJECTIVES, make_recipe
from ragvec.train.trainable import load_learner
from tests.tiny import TEXTS
from tests.training import LONG_TEXTS, losses, recipe_values, run, vectors, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_to_a_folder_that_loads(objective, tiny_decoder, data, tmp_path):
    lines = []
    keys = {"loss_scale": 2.0, "per_device_train_batch_size": 36} if objective == "simcse" else {}
    summary = run(objective, tiny_decoder, data, tmp_path / "out", max_steps=12, report=lines.append, **keys)
    assert losses(summary)[-1] < losses(summary)[0]
    assert [entry["step"] for entry in summary["log"]] == list(range(1, 13))
    written = json.loads((tmp_path / "out" / "training.json").read_text())
    assert written["objective"] == objective and written["last_loss"] == losses(summary)[-1]
    trained = vectors(tmp_path / "out")
    assert trained.shape == (len(TEXTS), 32) and np.abs(trained - vectors(tiny_decoder)).max() > 1e-3
    assert lines[0] == f"loading {tiny_decoder}"
    lines = lines[lines.index(next(line for line in lines if line.startswith("examples "))) :]
    assert lines[6].startswith("trainable parameters ")


def test_clm_lowers_perplexity_and_stays_a_decoder(tiny_decoder, data, tmp_path):
    from transformers import AutoModelForCausalLM

    run("clm", tiny_decoder, data, tmp_path / "out")
    assert not (tmp_path / "out" / "ragvec.json").exists()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight.shape == (512, 32)


def test_a_model_from_nothing(tiny_decoder, data, tmp_path):
    keys = {"config_name": str(tiny_decoder), "tokenizer_name": str(tiny_decoder), "model_name_or_path": None}
    summary = run("clm", None, data, tmp_path / "out", **keys)
    assert losses(summary)[0] == pytest.approx(np.log(512), abs=3)
    assert vectors(tmp_path / "out").shape == (len(TEXTS), 32)


@pytest.mark.parametrize("kind", ["blank", "eos", "mask"])
def test_mntp_with_each_mask_token_leaves_the_vocabulary_as_it_was(kind, tiny_decoder, data, tmp_path):
    run("mntp", tiny_decoder, data, tmp_path / "out", mask_token_type=kind, save_merged=kind == "mask")
    encoder = Encoder.load(tmp_path / "out", device="cpu", dtype="float32")
    assert encoder.model.get_input_embeddings().num_embeddings == 512 and len(encoder.tokenizer) == 384


def test_stages_stack_and_merging_changes_no_vector(tiny_decoder, data, tmp_path):
    """mntp → simcse → supervised, each from the one before; the last one saved both ways."""
    first, second, third, merged = (tmp_path / name for name in ("mntp", "simcse", "supervised", "merged"))
    run("mntp", tiny_decoder, data, first)
    run("simcse", first, data, second)
    run("supervised", second, data, third)
    run("supervised", second, data, merged, save_merged=True)
    stages = [vectors(folder) for folder in (tiny_decoder, first, second, third)]
    for before, after in zip(stages[:-1], stages[1:], strict=True):
        assert np.abs(before - after).max() > 1e-3
    np.testing.assert_allclose(vectors(third, merge=False), stages[-1], atol=1e-5)
    np.testing.assert_allclose(vectors(merged), stages[-1], atol=1e-5)
    assert Encoder.load(third, device="cpu").settings.adapters[0].endswith("mntp")
    assert (third / "adapter_config.json").exists() and not (merged / "adapter_config.json").exists()


def test_a_stage_named_the_references_way_equals_one_that_starts_from_the_folder(tiny_decoder, data, tmp_path):
    run("mntp", tiny_decoder, data, tmp_path / "mntp")
    run("supervised", tmp_path / "mntp", data, tmp_path / "a")
    run("supervised", tiny_decoder, data, tmp_path / "b", peft_model_name_or_path=str(tmp_path / "mntp"))
    np.testing.assert_allclose(vectors(tmp_path / "a"), vectors(tmp_path / "b"), atol=1e-6)


@pytest.mark.parametrize("objective", ["simcse", "supervised", "distill"])
def test_trained_instructions_become_the_encoders_own(objective, tiny_decoder, data, tmp_path):
    named = {"instruction": "Find the answer:", "document_instruction": "passage:"}
    run(objective, tiny_decoder, data, tmp_path / "out", **named)
    settings = Encoder.load(tmp_path / "out", device="cpu").settings
    assert (settings.query_instruction, settings.document_instruction) == ("Find the answer:", "passage:")
    run(objective, tmp_path / "out", data, tmp_path / "bare", instruction="", document_instruction="", save_merged=True)
    settings = Encoder.load(tmp_path / "bare", device="cpu").settings
    assert (settings.query_instruction, settings.document_instruction) == ("", "")


@pytest.mark.parametrize(
    "keys", [{"instruction": None}, {"instruction": "find:"}, {"instruction": "", "document_instruction": "passage:"}]
)
def test_what_is_trained_is_what_is_searched_by_default(keys, tiny_decoder, data, tmp_path):
    """Token for token: the prompts of a batch are those that the result makes of its texts."""
    made, _ = make_recipe(
        "supervised", recipe_values("supervised", tiny_decoder, data, tmp_path / "out", max_seq_length=128, **keys)
    )
    learner = load_learner(made)
    batch = prepare(made, learner).batches[0]
    rows = [json.loads(line) for line in (data / "pairs.jsonl").read_text().splitlines()]
    train(made, report=lambda line: None)
    encoder = Encoder.load(tmp_path / "out", device="cpu", max_length=128)
    queries, documents = encoder.settings.query_instruction, encoder.settings.document_instruction
    trained = [batch.ids[place] for place in batch.place.tolist()]
    count = batch.sizes[0]
    assert all(ids in encoder.prompts.build([row["query"] for row in rows], queries).ids for ids in trained[:count])
    texts = [row[name] for row in rows for name in ("positive", "negative")]
    assert all(ids in encoder.prompts.build(texts, documents).ids for ids in trained[count:])


def test_instructions_of_rows_are_stored_where_they_are_all_the_same(tiny_decoder, data, tmp_path):
    rows = [{"query": f"q{row}", "pos": [["say:", f"p{row}"]], "prompt": "find:"} for row in range(4)]
    (data / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"query": 1}]))
    lines = []
    run("supervised", tiny_decoder, data, tmp_path / "out", train_file="prompts.jsonl", instruction=None, on_error="skip",
        max_steps=1, report=lines.append)  # fmt: skip
    settings = Encoder.load(tmp_path / "out", device="cpu").settings
    assert (settings.query_instruction, settings.document_instruction) == ("find:", "say:")
    left_out = next(line for line in lines if line.startswith("rows left out"))
    assert left_out.startswith(f"rows left out         1, the first: {data / 'prompts.jsonl'}, line 5: field 'query' must be")


def test_accumulated_batches_equal_one_large_batch(tiny_decoder, data, tmp_path):
    """SimCSE over the whole set in one batch would mix negatives, so distillation's per-text terms show it."""
    keys = {"lora_dropout": 0.0, "distill_kl": 0.0, "max_steps": 2}
    run("distill", tiny_decoder, data, tmp_path / "a", per_device_train_batch_size=36, **keys)
    run("distill", tiny_decoder, data, tmp_path / "b", per_device_train_batch_size=9, gradient_accumulation_steps=4, **keys)
    np.testing.assert_allclose(vectors(tmp_path / "a"), vectors(tmp_path / "b"), atol=1e-4)


# --- the plan ----------------------------------------------------------------------------------------------------------------


def test_the_plan_is_what_the_trainer_does(tiny_decoder, data, tmp_path):
    summary = run(
        "mntp", tiny_decoder, data, tmp_path / "out", max_steps=-1, num_train_epochs=3, gradient_accumulation_steps=2,
        line_by_line=True, per_device_train_batch_size=5,
    )  # fmt: skip
    assert summary["plan"]["examples"] == 36 and summary["plan"]["steps"] == 9  # 36 / 5 / 2, rounded down, times 3
    assert [entry["step"] for entry in summary["log"]] == list(range(1, 10))
    assert summary["log"][-1]["epoch"] == 3


@pytest.mark.parametrize(
    ("objective", "keys", "told", "stored"),
    [
        ("supervised", {"instruction": "find:"},
         ["queries after         'find:'", "documents after       no instruction"], "find:"),
        ("supervised", {"instruction": None, "instructions": {"pairs": "one:"}},
         ["queries after         'one:'", "documents after       no instruction"], "one:"),
        ("supervised", {"instructions": {"pairs": ["a:", "b:"]}},
         ["queries after         2 instructions, by data set: 'a:', …", "documents after       no instruction",
          "searched with         no instruction, which no query was trained with"], ""),
        ("distill", {"document_instruction": "passage:"},
         ["documents after       'passage:'",
          f"searched with         {QUERY_INSTRUCTION!r}, which no query was trained with"], QUERY_INSTRUCTION),
        ("mntp", {}, [], QUERY_INSTRUCTION),
    ],
)  # fmt: skip
def test_the_plan_says_what_texts_are_read_after(objective, keys, told, stored, tiny_decoder, data, tmp_path):
    lines = []
    run(objective, tiny_decoder, data, tmp_path / "out", report=lines.append, max_steps=1, **keys)
    after = ("queries after", "documents after", "searched with")
    assert [line for line in lines if line.startswith(after)] == told
    assert Encoder.load(tmp_path / "out", device="cpu").settings.query_instruction == stored


def test_stop_after_n_steps_keeps_the_longer_schedule(tiny_decoder, data, tmp_path):
    summary = run("mntp", tiny_decoder, data, tmp_path / "out", max_steps=8, stop_after_n_steps=2)
    rates = [entry["learning_rate"] for entry in summary["log"]]
    assert summary["plan"]["steps"] == 2 and rates == pytest.approx([1e-2, 1e-2 * 7 / 8])


# --- resuming ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["mntp", "simcse", "distill"])
def test_resumed_equals_uninterrupted(objective, tiny_decoder, data, tmp_path):
    """Stopped within the second epoch, with dropout, masks and accumulation: the same losses and vectors."""
    keys = {"max_steps": 7, "per_device_train_batch_size": 9, "gradient_accumulation_steps": 2, "max_seq_length": 16}
    whole = run(objective, tiny_decoder, data, tmp_path / "whole", **keys)
    run(objective, tiny_decoder, data, tmp_path / "parts", **keys, stop_after_n_steps=3)
    rest = run(objective, tiny_decoder, data, tmp_path / "parts", **keys, resume=True)
    assert losses(rest) == losses(whole) and len(losses(whole)) == 7
    assert np.array_equal(vectors(tmp_path / "parts"), vectors(tmp_path / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_resumes(number, tiny_decoder, data, tmp_path):
    def interrupt(line: str) -> None:
        if line.startswith("step 2/"):
            os.kill(os.getpid(), number)

    whole = run("mntp", tiny_decoder, data, tmp_path / "whole", max_steps=6)
    with pytest.raises(KeyboardInterrupt):
        run("mntp", tiny_decoder, data, tmp_path / "parts", max_steps=6, report=interrupt)
    assert [path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()] == ["checkpoint-3"]
    assert not (tmp_path / "parts" / "adapter_config.json").exists()
    rest = run("mntp", tiny_decoder, data, tmp_path / "parts", max_steps=6, resume=True)
    assert losses(rest) == losses(whole)


def test_what_cannot_be_resumed(tiny_decoder, data, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(RagvecError, match="other holds no recipe.json: no run began there"):
        run("mntp", tiny_decoder, data, tmp_path / "other", resume=True)
    run("mntp", tiny_decoder, data, tmp_path / "out")
    with pytest.raises(RagvecError, match="`resume`: learning_rate was 0.01 and is 0.02: restore it"):
        run("mntp", tiny_decoder, data, tmp_path / "out", resume=True, learning_rate=2e-2)
    with pytest.raises(RagvecError, match='is not empty: pass `resume` to go on, or set "overwrite_output_dir": true'):
        run("mntp", tiny_decoder, data, tmp_path / "out")
    recipe, elsewhere = tmp_path / "out" / "recipe.json", tmp_path / "elsewhere"
    for text in ("[" * 100_000, "[]", "{", '{"seed": ' + "1" * 5000 + "}"):
        before = recipe.read_text()
        recipe.write_text(text)
        with pytest.raises(RagvecError, match="recipe.json is not readable .*: the run can't be resumed"):
            run("mntp", tiny_decoder, data, tmp_path / "out", resume=True)
        recipe.write_text(before)
    (tmp_path / "out" / "checkpoints").rename(elsewhere)
    (tmp_path / "out" / "checkpoints").symlink_to(elsewhere)
    held = sorted(elsewhere.rglob("*"))
    for keys in ({"resume": True}, {"overwrite_output_dir": True}):
        with pytest.raises(RagvecError, match="checkpoints is a link, where ragvec keeps a folder of its own"):
            run("mntp", tiny_decoder, data, tmp_path / "out", **keys)
    assert sorted(elsewhere.rglob("*")) == held
    (tmp_path / "out" / "checkpoints").unlink()
    run("simcse", tiny_decoder, data, tmp_path / "out", overwrite_output_dir=True, save_merged=True)
    assert (tmp_path / "out" / "model.safetensors").exists() and not (tmp_path / "out" / "adapter_config.json").exists()


def test_a_run_that_cannot_begin_leaves_nothing(tiny_decoder, data, tmp_path):
    """So that the next try needs neither --resume nor leave to overwrite."""
    with pytest.raises(RagvecError, match="nowhere.json does not exist"):
        run("mntp", tiny_decoder, data, tmp_path / "out", train_file=str(tmp_path / "nowhere.json"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "taken").write_text("")
    with pytest.raises(RagvecError, match="output_dir .*taken is a file: choose a folder"):
        run("mntp", tiny_decoder, data, tmp_path / "taken")
    for folder in (tmp_path / "taken" / "below", "out\0"):
        with pytest.raises(RagvecError, match="output_dir .* can't be a folder"):
            run("mntp", tiny_decoder, data, folder)
    with pytest.raises(RagvecError, match="tokenizer_name: there is no folder .*none: name one that holds a tokenizer"):
        run("mntp", tiny_decoder, data, tmp_path / "out", tokenizer_name=str(tmp_path / "none"))


# --- the command -------------------------------------------------------------------------------------------------------------


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments])
    out = capsys.readouterr()
    return end.value.code, out.out, out.err


def test_the_command_prints_plan_losses_and_where_the_result_is(tiny_decoder, data, tmp_path, capsys):
    config = tmp_path / "MetaLlama3.json"
    config.write_text(json.dumps({
        "model_name_or_path": str(tiny_decoder), "train_file": str(data / "texts.json"), "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 6, "gradient_accumulation_steps": 4, "num_train_epochs": 3, "max_seq_length": 512,
        "mask_token_type": "blank", "data_collator_type": "default", "mlm_probability": 0.2, "lora_r": 16, "do_train": True,
        "gradient_checkpointing": True, "torch_dtype": "float32", "attn_implementation": "flash_attention_2",
        "evaluation_strategy": "steps", "logging_steps": 1, "line_by_line": True, "device": "cpu",
    }))  # fmt: skip
    code, out, err = command(capsys, "mntp", str(config), "--set", "num_train_epochs=2", "--set", "lora_r=2")
    assert code == 0
    assert err.splitlines()[:3] == [
        "note: do_train has no effect: training is what the command does",
        "note: attn_implementation has no effect: texts are packed and attention runs per text",
        "note: evaluation_strategy has no effect: evaluation runs every eval_steps",
    ]
    lines = out.splitlines()
    assert lines[0] == f"loading {tiny_decoder}"
    lines = lines[lines.index(next(line for line in lines if line.startswith("examples "))) :]
    tokens = sum(len(ids) for ids in Encoder.load(tiny_decoder, device="cpu").tokenizer(LONG_TEXTS)["input_ids"])
    assert lines[:7] == [
        f"examples              36 ({tokens:,} tokens)",
        "epochs                2",
        "batch per device      6 examples",
        "accumulation          4",
        "total batch           24 examples",
        "steps                 2",
        "trainable parameters  2,048 (3.83% of 53,408)",
    ]
    assert lines[7:9] == [
        "device                cpu, float32",
        "expected time         is told with the first step, and with every line from then on",
    ]
    assert re.fullmatch(r"step 1/2  loss \d+\.\d{4}  learning rate 5\.00e-05  [\d,]+ tokens/s  \d+\.\d (s|min) left", lines[9])
    assert lines[10].startswith("step 2/2  loss ") and lines[10].endswith("tokens/s")
    assert lines[-1].startswith(f"{tmp_path / 'out'}: 2 steps in ")


def test_the_command_answers_mistakes_in_one_line(tmp_path, capsys):
    config = tmp_path / "c.json"
    config.write_text('{"lora_rr": 3, "output_dir": "o"}')
    assert command(capsys, "mntp", str(config)) == (2, "", f"error: {config}: unknown key 'lora_rr': did you mean 'lora_r'?\n")
    config.write_text("[" * 100_000)
    assert command(capsys, "mntp", str(config)) == (1, "", f"error: {config}: bad JSON: maximum recursion depth exceeded while "
                                                           "decoding a JSON array from a unicode string\n")  # fmt: skip
    config.write_text('{"seed": ' + "1" * 5000 + "}")
    code, _, err = command(capsys, "mntp", str(config))
    assert code == 1 and err.startswith(f"error: {config}: bad JSON: Exceeds the limit (4300")
    config.write_text(json.dumps({"output_dir": str(tmp_path / "o"), "model_name_or_path": str(tmp_path)}))
    code, out, err = command(capsys, "mntp", str(config))
    assert (code, out, err.count("\n")) == (1, f"loading {tmp_path}\n", 1) and "is no model folder" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "keys"),
    [
        ("mntp", {"gradient_checkpointing": True}),
        ("supervised", {"mini_batch_tokens": 60}),
        ("clm", {"torch_dtype": "bfloat16"}),
    ],
)
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor"
)  # torch's own, while it compiles
def test_compiled_layers_train_alike(objective, keys, tiny_decoder, data, tmp_path):
    """Packed batches of other lengths at every step; without dropout, whose random numbers a compiled layer draws otherwise."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    plain, compiled = (
        run(objective, tiny_decoder, data, tmp_path / str(one), max_steps=5, lora_dropout=0.0, torch_compile=one, **keys)
        for one in (False, True)
    )
    tolerance = 2e-2 if "torch_dtype" in keys else 1e-4
    np.testing.assert_allclose(losses(compiled), losses(plain), rtol=tolerance)
