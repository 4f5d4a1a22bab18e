"""The recipes that ship: each is a valid recipe without a key that does nothing, and plans a run."""

import json

import pytest
import torch

from ragvec.encoder import EncoderSettings
from ragvec.train import plan_run
from ragvec.train.model import Learner
from ragvec.train.recipe import make_recipe, read_recipe, shipped_recipes
from ragvec.train.trainable import add_trainable_parts
from ragvec.train.training_plan import count_parameters

STAGES = ("mntp", "simcse", "supervised")
RECIPES = [(stage, path) for stage in STAGES for path in shipped_recipes(stage)]
PUBLISHED = ("Sheared-Llama", "Llama2", "Mistral", "MetaLlama3", "MetaLlama3.1")
SHAPES = {  # hidden, intermediate, layers, key-value heads, vocabulary, LoRA's parameters: 16 × (inputs + outputs) a layer
    "Sheared-Llama": (2048, 5504, 24, 16, 32000, 14_991_360),
    "Llama2": (4096, 11008, 32, 32, 32000, 39_976_960),
    "Mistral": (4096, 14336, 32, 8, 32000, 41_943_040),
}
# Keys and values as the reference's published files have them.
REFERENCE_MNTP = {
    "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct", "dataset_name": "wikitext",
    "dataset_config_name": "wikitext-103-raw-v1", "per_device_train_batch_size": 32, "per_device_eval_batch_size": 32,
    "gradient_accumulation_steps": 1, "do_train": True, "do_eval": True, "max_seq_length": 512, "mask_token_type": "blank",
    "data_collator_type": "default", "mlm_probability": 0.2, "overwrite_output_dir": True, "output_dir": "output/mlm/x",
    "evaluation_strategy": "steps", "eval_steps": 100, "save_steps": 200, "stop_after_n_steps": 1000, "lora_r": 16,
    "gradient_checkpointing": True, "torch_dtype": "bfloat16", "attn_implementation": "flash_attention_2",
}  # fmt: skip
REFERENCE_SUPERVISED = {
    "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
    "peft_model_name_or_path": "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp", "bidirectional": True,
    "pooling_mode": "mean", "dataset_name": "E5", "dataset_file_path": "cache/echo-data", "remove_unused_columns": False,
    "learning_rate": 2e-4,
    "num_train_epochs": 3, "warmup_steps": 300, "per_device_train_batch_size": 64, "per_device_eval_batch_size": 64,
    "gradient_accumulation_steps": 1, "do_train": True, "disable_tqdm": False, "max_seq_length": 512,
    "overwrite_output_dir": True, "output_dir": "output/x", "logging_steps": 50, "save_steps": 200, "save_only_model": True,
    "stop_after_n_steps": 1000, "lora_r": 16, "gradient_checkpointing": True, "torch_dtype": "bfloat16",
    "attn_implementation": "flash_attention_2", "seed": 42,
}  # fmt: skip


def test_every_published_model_has_a_recipe_for_each_stage():
    for stage in STAGES:
        assert set(PUBLISHED) <= {path.stem for path in shipped_recipes(stage)}
        assert {path.stem for path in shipped_recipes(stage)} == {path.stem for path in shipped_recipes("mntp")}


@pytest.mark.parametrize(("stage", "path"), RECIPES, ids=lambda value: getattr(value, "stem", value))
def test_a_shipped_recipe_plans(stage, path, tiny_decoder, tmp_path):
    """As it stands but for the model and the data, which are not here."""
    file = tmp_path / "data.jsonl"
    key = "query" if stage == "supervised" else "text"
    rows = [
        {key: f"how do plants make food {number}?", "positive": "from light", "negatives": ["a", "b"]} for number in range(260)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe, notes = read_recipe(stage, path)
    assert not notes and recipe.lora_r == 16 and recipe.stop_after_n_steps == 1000 and recipe.torch_dtype == "bfloat16"
    here = [f"model_name_or_path={tiny_decoder}", "peft_model_name_or_path=null", "dataset_file_path=null", "device=cpu"]
    plan = plan_run(read_recipe(stage, path.name, [*here, f"train_file={file}", "dataset_name=null"])[0])
    batch = recipe.per_device_train_batch_size
    assert plan.batch == f"{batch} examples" and plan.trainable == 8 * 2048
    assert plan.steps == (3 if stage == "mntp" else 3 * (260 // batch))


@pytest.mark.parametrize("name", SHAPES)
def test_trainable_parameters_of_the_published_models(name):
    from transformers import AutoConfig, AutoModel

    hidden, intermediate, layers, key_values, vocabulary, expected = SHAPES[name]
    config = AutoConfig.for_model(
        "llama", hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, vocab_size=vocabulary,
        num_attention_heads=hidden // 128, num_key_value_heads=key_values,
    )  # fmt: skip
    with torch.device("meta"):
        backbone = AutoModel.from_config(config, dtype=torch.bfloat16)
        learner = Learner(backbone, None, EncoderSettings(), None, device=torch.device("meta"), dtype=torch.bfloat16)
        add_trainable_parts(learner, read_recipe("supervised", f"{name}.json")[0])
    assert count_parameters(backbone, trainable=True) == expected


def test_the_references_files_work_as_they_are():
    mntp, notes = make_recipe("mntp", REFERENCE_MNTP)
    assert (mntp.mlm_probability, mntp.stop_after_n_steps, mntp.learning_rate, mntp.eval_steps) == (0.2, 1000, 5e-5, 100)
    assert sorted(note.split()[0] for note in notes) == [
        "attn_implementation", "do_eval", "do_train", "evaluation_strategy", "per_device_eval_batch_size"
    ]  # fmt: skip
    supervised, notes = make_recipe("supervised", REFERENCE_SUPERVISED)
    assert (supervised.loss_scale, supervised.warmup_steps, supervised.pooling_mode) == (50, 300, "mean")
    assert len(notes) == 5


def test_the_users_example_plans_5694_steps(tiny_decoder, tmp_path):
    """45,554 examples in batches of 6, accumulated 4 times, for 3 epochs."""
    file = tmp_path / "data.json"
    file.write_text(json.dumps([{"text": f"fox {number}"} for number in range(45_554)]))
    keys = {
        "model_name_or_path": str(tiny_decoder), "train_file": str(file), "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 6, "gradient_accumulation_steps": 4, "num_train_epochs": 3, "line_by_line": True,
    }  # fmt: skip
    plan = plan_run(make_recipe("mntp", keys)[0])
    assert (plan.examples, plan.steps, plan.total_batch) == (45_554, 5694, "24 examples")
    assert not (tmp_path / "out").exists()
