"""Recipes: keys, defaults, types, overrides, and how mistakes are answered."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from ragvec.errors import RagvecError
from ragvec.train.recipe import OBJECTIVES, explicit_defaults, make_recipe, read_recipe, recipe_schema

SCHEMA = Path(__file__).resolve().parent.parent / "data" / "recipes" / "schema.json"


def recipe(objective: str = "mntp", **keys):
    return make_recipe(objective, {"output_dir": "out", **keys})[0]


def default_cell(key: str) -> str:
    """A key's default as docs/training.md writes it: mntp's, then those of objectives that differ."""
    values = {name: json.dumps(defaults[key]) for name in OBJECTIVES if key in (defaults := explicit_defaults(name))}
    plain = values.get("mntp") or next(iter(values.values()))
    others = "".join(f"; {name} {value}" for name, value in values.items() if value != plain)
    return (plain if plain not in ("null", "[]", "{}", '""') else "–") + others


def test_the_documentation_lists_every_key_with_its_default():
    page = (Path(__file__).resolve().parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page.split("## Keys")[1], flags=re.M))
    assert listed == {key: default_cell(key) for name in OBJECTIVES for key in explicit_defaults(name)}


def test_defaults_are_the_published_recipes():
    mntp, simcse, supervised = (explicit_defaults(name) for name in ("mntp", "simcse", "supervised"))
    table = ("per_device_train_batch_size", "learning_rate", "warmup_steps", "max_seq_length")
    assert [mntp[key] for key in table] == [32, 5e-5, 0, 512]
    assert [simcse[key] for key in table] == [128, 3e-5, 0, 128]
    assert [supervised[key] for key in table] == [64, 2e-4, 300, 512]
    assert (simcse["loss_scale"], supervised["loss_scale"], simcse["simcse_dropout"]) == (20, 50, 0.3)
    assert (mntp["mask_token_type"], mntp["mlm_probability"], mntp["data_collator_type"]) == ("blank", 0.15, "default")
    for defaults in (mntp, simcse, supervised):
        assert (defaults["lora_r"], defaults["lora_alpha"], defaults["lora_dropout"]) == (16, None, 0.05)
    assert mntp["train_lm_head"] is False and mntp["cross_document"] is False


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_default_is_a_valid_recipe(objective):
    values = {key: value for key, value in explicit_defaults(objective).items() if value is not None}
    again, notes = make_recipe(objective, {**values, "output_dir": "out"})
    assert again == recipe(objective) and not notes


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("mlm_probabilty", "mlm_probability"),
        ("gradient_acumulation_steps", "gradient_accumulation_steps"),
        ("learning_rat", "learning_rate"),
        ("attn_implementaton", "attn_implementation"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, nearest):
    with pytest.raises(RagvecError, match=f"unknown key '{key}': did you mean '{nearest}'"):
        recipe(**{key: 1})


def test_a_key_like_no_other_points_to_the_documentation():
    with pytest.raises(RagvecError, match=r"unknown key 'zzz': docs/training.md lists the keys"):
        recipe(zzz=1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learning_rate": "fast"}, "learning_rate must be float, not 'fast'"),
        ({"lora_r": 16.5}, "lora_r must be int, not 16.5"),
        ({"save_merged": 1}, "save_merged must be bool, not 1"),
        ({"seed": True}, "seed must be int, not True"),
        ({"train_file": [1]}, "train_file must be .*str.*, not"),
        ({"instructions": {"nq": 3}}, "instructions must be"),
        ({"mask_token_type": "star"}, "mask_token_type is 'star': choose one of blank, eos, mask"),
        ({"torch_dtype": "float16"}, "torch_dtype is 'float16': choose one of auto, float32, bfloat16"),
        ({"mlm_probability": 1.2}, "mlm_probability is 1.2, must lie between 0 and 1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0, must be at least 1"),
        ({"num_train_epochs": 0}, "num_train_epochs"),
        ({"output_dir": None}, "no output_dir"),
        ({"output_dir": "s3://bucket/run"}, "`output_dir` is s3://…, an address: give a path of this machine"),
    ],
)
def test_values_that_no_run_could_use(keys, message):
    objective = "supervised" if "instructions" in keys else "mntp"
    with pytest.raises(RagvecError, match=message):
        recipe(objective, **keys)


def test_null_where_it_means_nothing_and_texts_where_numbers_belong():
    with pytest.raises(RagvecError, match="recipe: loss_scale must be float, not None"):
        recipe("supervised", loss_scale=None)
    with pytest.raises(RagvecError, match=r"matryoshka_dims must be list\[int\], not 'all'"):
        recipe("supervised", matryoshka_dims="all")
    with pytest.raises(RagvecError, match="learning_rate is nan, must be a finite number"):
        recipe(learning_rate=float("nan"))
    with pytest.raises(RagvecError, match="validation_split_percentage is 100, must be below 100"):
        recipe(validation_split_percentage=100)
    with pytest.raises(RagvecError, match="block_size is 0, must be at least 1"):  # as the file spells it
        recipe(block_size=0)


def test_a_recipe_knows_its_objective_and_is_refused_for_another():
    made, _ = make_recipe("simcse", {"output_dir": "out", "objective": "simcse"})
    assert made.objective == "simcse" and made.as_json()["objective"] == "simcse"
    assert make_recipe("simcse", made.as_json())[0] == made
    with pytest.raises(RagvecError, match="recipe is for 'simcse', not for mntp: train that"):
        make_recipe("mntp", made.as_json())


def test_the_schema_for_editors_is_what_the_recipe_says():
    """Written anew with: python -m tests.test_recipe"""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == recipe_schema()


def test_an_editor_that_reads_the_schema_knows_every_key_and_finds_mistakes():
    schema = jsonschema.Draft202012Validator(recipe_schema())
    for path in SCHEMA.parent.glob("*/*.json"):
        schema.validate(json.loads(path.read_text(encoding="utf-8")))
    schema.validate(
        {"$schema": "schema.json", "objective": "mntp", "dtype": "bfloat16", "do_train": True, "train_file": "a.txt"}
    )
    wrong = {"lora_r": "16", "learning_rat": 1, "loss": "infonce", "seed": -1, "objective": "mlm", "train_file": [1]}
    for key, value in wrong.items():
        assert not schema.is_valid({key: value}), key
    assert recipe(**{"$schema": "schema.json"}) == recipe()


def test_one_file_may_stand_where_several_may():
    assert recipe(train_file="a.json").train_file == ["a.json"]
    assert recipe(train_file=["a.json", "b.csv"]).train_file == ["a.json", "b.csv"]
    assert recipe(learning_rate=1).learning_rate == 1.0


def test_keys_under_the_names_of_other_transformers_versions():
    assert recipe(dtype="bfloat16").torch_dtype == "bfloat16"
    assert recipe(block_size=64).max_seq_length == 64


def test_keys_without_effect_are_said_not_swallowed():
    _, notes = make_recipe("mntp", {"output_dir": "o", "attn_implementation": "flash_attention_2", "loss_scale": 20})
    assert notes == [
        "attn_implementation has no effect: texts are packed and attention runs per text",
        "loss_scale has no effect: mntp does not use it",
    ]


def test_overrides_win_and_are_json_or_strings(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"output_dir": "a", "learning_rate": 1e-5, "lora_r": 4}))
    overrides = [
        "learning_rate=3e-4",
        "output_dir=runs/b",
        'train_file=["x.json","y.json"]',
        "save_merged=true",
        "lora_alpha=null",
    ]
    read, _ = read_recipe("mntp", file, overrides)
    assert (read.learning_rate, read.output_dir, read.lora_r) == (3e-4, "runs/b", 4)
    assert (read.train_file, read.save_merged, read.lora_alpha) == (["x.json", "y.json"], True, None)
    with pytest.raises(RagvecError, match="`overrides` 'lora_r' is not key=value"):
        read_recipe("mntp", file, ["lora_r"])
    with pytest.raises(RagvecError, match="unknown key 'lorar': did you mean 'lora_r'"):
        read_recipe("mntp", file, ["lorar=4"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 2**32, "must be below 4294967296"),
        ("max_seq_length", 10**30, "must be below 2147483648"),
        ("lora_r", 10**9, "must be below 65536"),
        ("warmup_steps", -1, "must be at least 0"),
        ("adam_beta2", 1.0, "must be below 1.0"),
        ("save_total_limit", 0, "must be at least 1"),
        ("lora_dropout", 1.0, "must be below 1"),
        ("lr_scheduler_type", "warmup_stable_decay", "choose one of linear, cosine, cosine_with_restarts"),
    ],
)
def test_a_value_that_training_could_not_use_is_refused_at_once(key, value, message):
    with pytest.raises(RagvecError, match=f"{key} is .*{message}"):
        recipe(**{key: value})


def test_files_that_are_no_recipes(tmp_path):
    file = tmp_path / "config.json"
    with pytest.raises(RagvecError, match=r"config.json cannot be read: No such file"):
        read_recipe("mntp", file)
    with pytest.raises(RagvecError, match="no file Lama.json, and no mntp recipe of that name ships with ragvec: Gemma3.json"):
        read_recipe("mntp", "Lama.json")
    file.write_text('{\n "lora_r": 4,\n "seed" 1\n}')
    with pytest.raises(RagvecError, match="config.json, line 3: bad JSON"):
        read_recipe("mntp", file)
    file.write_text("[1]")
    with pytest.raises(RagvecError, match="holds no JSON object"):
        read_recipe("mntp", file)
    file.write_bytes(b'{"seed": "\xff"}')
    with pytest.raises(RagvecError, match="is not UTF-8 text"):
        read_recipe("mntp", file)
    with pytest.raises(RagvecError, match="unknown objective 'mlm': did you mean 'clm'. There are clm, mntp"):
        read_recipe("mlm", file)


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(recipe_schema(), indent=1) + "\n", encoding="utf-8")
