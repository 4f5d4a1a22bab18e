"""A training recipe: the keys of a JSON config, their defaults for each objective, and how a mistyped one is answered.

Most keys are the reference's, which are Hugging Face's, so that its published config files work as they are. pydantic
holds each value against its key's type; recipes/schema.json among ragvec's data tells editors the same.
"""

import difflib
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ragvec.arguments import local_folder
from ragvec.data import data_path
from ragvec.errors import NotFound, WrongInput, WrongUsage, first_line

ObjectiveName = Literal["clm", "mntp", "simcse", "supervised", "distill"]
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


# One string may stand where several may.
Strings = Annotated[list[str], BeforeValidator(_one_or_several, json_schema_input_type=str | list[str])]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Amount = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
# transformers' schedules that need nothing but the number of steps
Schedule = Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Recipe:
    """Everything a training run is told. docs/training.md explains each key; None = decided by the model or not used.

    objective  what is taught; the other keys are those of a config file, and keys that it does not use have their defaults
    """

    objective: ObjectiveName
    # where it starts
    model_name_or_path: str | None = None
    model_revision: str | None = None
    offline: bool = False
    peft_model_name_or_path: str | None = None
    extra_model_name_or_path: Strings = Field(default_factory=list)
    config_name: str | None = None
    tokenizer_name: str | None = None
    bidirectional: bool | None = None
    pooling_mode: str | None = None
    max_seq_length: Count = 512
    torch_dtype: Literal["auto", "float32", "bfloat16"] | None = None
    device: str | None = None
    # data
    train_file: Strings = Field(default_factory=list)
    validation_file: Strings = Field(default_factory=list)
    validation_split_percentage: Annotated[int, Field(ge=0, lt=100)] = 0
    eval_dataset: str | None = None
    eval_split: str = "dev"
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    dataset_file_path: str | None = None
    text_field: str | None = None
    corpus_root: str | None = None
    on_error: Literal["stop", "skip"] = "stop"
    max_train_samples: Count | None = None
    instruction: str | None = None
    document_instruction: str | None = None
    instructions: dict[str, str | list[str]] = Field(default_factory=dict)
    symmetric: Strings = Field(default_factory=list)
    max_negatives: Amount | None = None
    teacher_vectors: Strings = Field(default_factory=list)
    cross_document: bool = False
    line_by_line: bool = False
    # what is trained
    load_in_4bit: bool = False
    lora_r: Annotated[int, Field(ge=0, lt=2**16)] = 16
    lora_alpha: Count | None = None
    lora_dropout: Below1 = 0.05
    lora_modules: Strings = Field(default_factory=list)
    train_lm_head: bool = False
    freeze_embeddings: bool = False
    freeze: Strings = Field(default_factory=list)
    # objectives
    mask_token_type: Literal["blank", "eos", "mask"] = "blank"
    mask_token: str | None = None
    data_collator_type: Literal["default", "all_mask"] = "default"
    mlm_probability: Annotated[float, Field(gt=0, le=1)] = 0.15
    simcse_dropout: Below1 = 0.3
    loss: Literal["contrastive", "cosent"] = "contrastive"
    loss_scale: Positive = 20.0
    mask_identical: bool = True
    false_negative_margin: float | None = None
    guide: str | None = None
    homogeneous_batches: bool = True
    matryoshka_dims: list[Count] = Field(default_factory=list)
    distill_cosine: Weight = 1.0
    distill_mse: Weight = 0.0
    distill_kl: Weight = 1.0
    distill_temperature: Positive = 0.05
    # the run
    per_device_train_batch_size: Count = 8
    batch_tokens: Count | None = None
    mini_batch_tokens: Count | None = None
    gradient_accumulation_steps: Count = 1
    num_train_epochs: Positive = 3.0
    max_steps: Annotated[int, Field(ge=-1, lt=2**31)] = -1
    stop_after_n_steps: Count | None = None
    learning_rate: Positive = 5e-5
    embedding_learning_rate: Positive | None = None
    warmup_steps: Weight = 0
    warmup_ratio: Share = 0.0
    lr_scheduler_type: Schedule = "linear"
    weight_decay: Weight = 0.0
    adam_beta1: Below1 = 0.9
    adam_beta2: Below1 = 0.999
    adam_epsilon: Weight = 1e-8
    max_grad_norm: Weight = 1.0
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    fsdp: bool = False
    ddp_timeout: Count | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    logging_steps: Count | None = None
    report_to: Strings = Field(default_factory=list)
    eval_steps: Count = 500
    save_steps: Count = 500
    save_total_limit: Count | None = 2
    save_only_model: bool = False
    save_merged: bool = False
    save_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    output_dir: str = ""
    overwrite_output_dir: bool = False

    def as_json(self) -> dict[str, Any]:
        """The keys and values as JSON has them."""
        return asdict(self)


# What differs from the defaults above, by objective (the published recipes' values where there is one).
_DEFAULTS: dict[ObjectiveName, dict[str, Any]] = {
    "clm": {"lora_r": 0, "learning_rate": 5e-4, "weight_decay": 0.1, "adam_beta2": 0.95, "num_train_epochs": 1.0},
    "mntp": {"per_device_train_batch_size": 32},
    "simcse": {"per_device_train_batch_size": 128, "learning_rate": 3e-5, "max_seq_length": 128},
    "supervised": {
        "per_device_train_batch_size": 64, "learning_rate": 2e-4, "warmup_steps": 300, "loss_scale": 50.0,
    },
    "distill": {"per_device_train_batch_size": 128, "learning_rate": 2e-4, "num_train_epochs": 1.0},
}  # fmt: skip

# Keys that mean something to some objectives only: elsewhere they would be ignored, which nobody would notice.
_ONLY_FOR: dict[str, tuple[ObjectiveName, ...]] = {
    "config_name": ("clm",),
    "cross_document": ("clm", "mntp"),
    "line_by_line": ("clm", "mntp"),
    "train_lm_head": ("mntp",),
    "mask_token_type": ("mntp",),
    "mask_token": ("mntp",),
    "data_collator_type": ("mntp",),
    "mlm_probability": ("mntp",),
    "simcse_dropout": ("simcse",),
    "loss": ("supervised",),
    "loss_scale": ("simcse", "supervised"),
    "pooling_mode": ("simcse", "supervised", "distill"),
    "instruction": ("simcse", "supervised", "distill"),
    "document_instruction": ("simcse", "supervised", "distill"),
    "instructions": ("supervised", "distill"),
    "symmetric": ("supervised", "distill"),
    "corpus_root": ("supervised", "distill"),
    "max_negatives": ("supervised", "distill"),
    "matryoshka_dims": ("simcse", "supervised"),
    "mini_batch_tokens": ("simcse", "supervised", "distill"),
    "mask_identical": ("simcse", "supervised"),
    "false_negative_margin": ("simcse", "supervised"),
    "guide": ("supervised",),
    "homogeneous_batches": ("supervised", "distill"),
    "teacher_vectors": ("distill",),
    "distill_cosine": ("distill",),
    "distill_mse": ("distill",),
    "distill_kl": ("distill",),
    "distill_temperature": ("distill",),
}

_SAME_KEY = {"evaluation_strategy": "eval_strategy", "dtype": "torch_dtype", "block_size": "max_seq_length"}
# Keys of the reference's files that change nothing here, and why.
WITHOUT_EFFECT = {
    "attn_implementation": "texts are packed and attention runs per text",
    "per_device_eval_batch_size": "evaluation uses the training batch size",
    "do_train": "training is what the command does",
    "do_eval": "evaluation runs if there is validation data",
    "eval_strategy": "evaluation runs every eval_steps",
    "save_strategy": "checkpoints are written every save_steps",
    "logging_strategy": "losses are logged every logging_steps, or about once a minute",
    "remove_unused_columns": "only the fields needed are read",
    "disable_tqdm": "progress shows on a terminal only",
    "overwrite_cache": "there is no tokenization cache",
    "pad_to_max_length": "batches carry no padding",
    "preprocessing_num_workers": "the tokenizer uses every core",
    "use_fast_tokenizer": "tokenizers are fast ones",
    "low_cpu_mem_usage": "weights are memory-mapped",
    "ddp_find_unused_parameters": "the model's forward is the objective",
    "loss_class": "the objective and the key loss name it",
    "experiment_id": "output_dir names the run",
}


SCHEMA_KEY = "$schema"  # by which editors find recipes/schema.json
_LIMITS = {
    "greater_than_equal": "be at least {ge}",
    "greater_than": "be above {gt}",
    "less_than_equal": "lie between 0 and {le:g}",
    "less_than": "be below {lt}",
    "finite_number": "be a finite number",
}


def read_recipe(objective: str, path: str | Path, overrides: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """Read a JSON config for an objective.

    path       a file, or the name of a recipe that ships with ragvec, where no such file is ("MetaLlama3.json")
    overrides  "key=value" strings that win over the file; a value is JSON, or a string if it is none
    returns    the recipe, and notes on keys of the reference that change nothing here
    Raises RagvecError for an unreadable file, an unknown objective or key (naming the nearest), or a value of the wrong type.
    """
    name = _objective(objective)
    given = {**_read_json(_locate(name, Path(path))), **dict(_parse_override(text) for text in overrides)}
    return make_recipe(name, given, place=str(path))


def make_recipe(objective: str, given: dict[str, Any], *, place: str = "recipe") -> tuple[Recipe, list[str]]:
    """A recipe from keys and values; see read_recipe."""
    name = _objective(objective)
    values: dict[str, Any] = dict(_DEFAULTS[name])
    known = _keys()
    notes: list[str] = []
    written: dict[str, str] = {}
    for key, value in given.items():
        ours = _SAME_KEY.get(key, key)
        if ours in WITHOUT_EFFECT:
            notes.append(f"{key} has no effect: {WITHOUT_EFFECT[ours]}")
        elif ours == "objective":
            if value != name:
                raise WrongUsage(f"{place} is for {value!r}, not for {name}: train that, or take another recipe")
        elif ours not in known:
            if ours != SCHEMA_KEY:
                raise WrongUsage(f"{place}: unknown key {key!r}{_nearest(key, known)}")
        elif name not in _ONLY_FOR.get(ours, OBJECTIVES):
            notes.append(f"{key} has no effect: {name} does not use it")
        else:
            values[ours], written[ours] = value, key
    if not values.get("output_dir"):
        raise WrongUsage(f'{place}: no output_dir: add "output_dir": "…", the folder for the result')
    if isinstance(values["output_dir"], str):
        local_folder("output_dir", values["output_dir"])
    try:
        recipe = Recipe(objective=name, **values)
    except ValidationError as error:
        raise WrongUsage(f"{place}: {_what_is_wrong(error, values, written)}") from None
    if recipe.fsdp and recipe.eval_dataset:
        raise WrongUsage(f"{place}: eval_dataset needs a whole model, which no process has with fsdp: use `ragvec eval` later")
    return recipe, notes


def explicit_defaults(objective: ObjectiveName) -> dict[str, Any]:
    """Every key that an objective uses, with its default: what the documentation lists."""
    values = {**asdict(Recipe(objective=objective)), **_DEFAULTS[objective]}
    return {name: values[name] for name in _keys() if objective in _ONLY_FOR.get(name, OBJECTIVES)}


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file: what recipes/schema.json holds."""
    schema = TypeAdapter(Recipe).json_schema()
    properties = {name: {**rule, "title": name} for name, rule in schema["properties"].items() if name != "objective"}
    for other, name in _SAME_KEY.items():
        if name in properties:
            properties[other] = {**properties[name], "description": f"the same as {name}"}
    for name, reason in WITHOUT_EFFECT.items():
        properties[name] = {"description": f"no effect: {reason}"}
    for rule in properties.values():
        rule.pop("default", None)  # they differ by objective
    properties[SCHEMA_KEY] = {"type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A training recipe of ragvec",
        "type": "object",
        "properties": {"objective": {"enum": list(OBJECTIVES)}, **properties},
        "additionalProperties": False,
    }


def _keys() -> list[str]:
    """The keys of a config file."""
    return [item.name for item in fields(Recipe) if item.name != "objective"]


def _objective(name: str) -> ObjectiveName:
    for known in OBJECTIVES:
        if name == known:
            return known
    near = difflib.get_close_matches(name, OBJECTIVES, n=1)
    meant = f"did you mean {near[0]!r}? There are" if near else "choose one of"
    raise WrongUsage(f"unknown objective {name!r}: {meant} {', '.join(OBJECTIVES)}")


def _what_is_wrong(error: ValidationError, values: dict[str, Any], written: dict[str, str]) -> str:
    """The first thing wrong with a recipe's values, in a line; written: each key as the file spells it."""
    first = error.errors(include_url=False)[0]
    key, kind, limits = str(first["loc"][0]), first["type"], first.get("ctx", {})
    name, value = written.get(key, key), f"{values[key]!r:.60}"
    if kind == "literal_error":
        choices = [choice for one in _options(key) for choice in get_args(one)]
        return f"{name} is {value}: choose one of {', '.join(choices)}"
    if kind in _LIMITS:
        return f"{name} is {value}, must {_LIMITS[kind].format(**limits)}"
    wanted = (one.__name__ if isinstance(one, type) and not get_args(one) else str(one) for one in _options(key))
    return f"{name} must be {' or '.join(wanted)}, not {value}"


def _options(key: str) -> list[Any]:
    """The types that a key's value may have, None aside."""
    kind = typing.get_type_hints(Recipe)[key]
    several = get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    return [one for one in several if one is not type(None)]


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, [*known, *WITHOUT_EFFECT], n=1, cutoff=0.6)
    return f": did you mean {near[0]!r}?" if near else ": docs/training.md lists the keys"


def shipped_recipes(objective: ObjectiveName) -> list[Path]:
    """The recipes for published and current base models that ship with ragvec."""
    return sorted(data_path(f"recipes/{objective}").glob("*.json"))


def _locate(objective: ObjectiveName, path: Path) -> Path:
    if path.parent == Path() and not path.exists():
        for shipped in shipped_recipes(objective):
            if shipped.name == path.name or shipped.stem == path.name:
                return shipped
        names = ", ".join(shipped.name for shipped in shipped_recipes(objective))
        if names:
            raise NotFound(f"there is no file {path}, and no {objective} recipe of that name ships with ragvec: {names}")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WrongInput(f"{path} is not UTF-8 text: a recipe is a JSON file") from error
    except json.JSONDecodeError as error:
        raise WrongInput(f"{path}, line {error.lineno}: bad JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets as deep
        raise WrongInput(f"{path}: bad JSON: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise WrongUsage(f'{path} holds no JSON object: a recipe looks like {{"model_name_or_path": …}}')
    return value


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise WrongUsage(f"`overrides` {text!r} is not key=value")
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return key.strip(), value
