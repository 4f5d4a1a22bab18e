"""A training recipe: the keys of a JSON config, their defaults for each objective, and how a mistyped one is answered.

Most keys are the reference's, which are Hugging Face's, so that its published config files work as they are.
"""

import difflib
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Union

from ragvec.data import data_path
from ragvec.errors import RagvecError

OBJECTIVES = ("clm", "mntp", "simcse", "supervised", "distill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything a training run is told. docs/training.md explains each key; None = decided by the model or not used."""

    # where it starts
    model_name_or_path: str | None = None
    model_revision: str | None = None
    peft_model_name_or_path: str | None = None
    extra_model_name_or_path: list[str] = field(default_factory=list)
    config_name: str | None = None
    tokenizer_name: str | None = None
    bidirectional: bool | None = None
    pooling_mode: str | None = None
    max_seq_length: int = 512
    torch_dtype: str | None = None
    device: str | None = None
    # data
    train_file: list[str] = field(default_factory=list)
    validation_file: list[str] = field(default_factory=list)
    validation_split_percentage: int = 0
    eval_dataset: str | None = None
    eval_split: str = "dev"
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    dataset_file_path: str | None = None
    text_field: str | None = None
    corpus_root: str | None = None
    max_train_samples: int | None = None
    instruction: str = ""
    instructions: dict[str, str | list[str]] = field(default_factory=dict)
    symmetric: list[str] = field(default_factory=list)
    max_negatives: int | None = None
    teacher_vectors: list[str] = field(default_factory=list)
    cross_document: bool = False
    line_by_line: bool = False
    # what is trained
    load_in_4bit: bool = False
    lora_r: int = 16
    lora_alpha: int | None = None
    lora_dropout: float = 0.05
    lora_modules: list[str] = field(default_factory=list)
    train_lm_head: bool = False
    freeze_embeddings: bool = False
    freeze: list[str] = field(default_factory=list)
    # objectives
    mask_token_type: str = "blank"
    mask_token: str | None = None
    data_collator_type: str = "default"
    mlm_probability: float = 0.15
    simcse_dropout: float = 0.3
    loss: str = "contrastive"
    loss_scale: float = 20.0
    mask_identical: bool = True
    false_negative_margin: float | None = None
    homogeneous_batches: bool = True
    matryoshka_dims: list[int] = field(default_factory=list)
    distill_cosine: float = 1.0
    distill_mse: float = 0.0
    distill_kl: float = 1.0
    distill_temperature: float = 0.05
    # the run
    per_device_train_batch_size: int = 8
    batch_tokens: int | None = None
    mini_batch_tokens: int | None = None
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 3.0
    max_steps: int = -1
    stop_after_n_steps: int | None = None
    learning_rate: float = 5e-5
    embedding_learning_rate: float | None = None
    warmup_steps: float = 0
    warmup_ratio: float = 0.0
    lr_scheduler_type: str = "linear"
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    fsdp: bool = False
    seed: int = 42
    logging_steps: int = 50
    report_to: list[str] = field(default_factory=list)
    eval_steps: int = 500
    save_steps: int = 500
    save_total_limit: int | None = 2
    save_only_model: bool = False
    save_merged: bool = False
    save_dtype: str | None = None
    output_dir: str | None = None
    overwrite_output_dir: bool = False

    def as_json(self) -> dict[str, Any]:
        """The keys and values as JSON has them."""
        return asdict(self)


# What differs from the defaults above, by objective (the published recipes' values where there is one).
_DEFAULTS: dict[str, dict[str, Any]] = {
    "clm": {"lora_r": 0, "learning_rate": 5e-4, "weight_decay": 0.1, "adam_beta2": 0.95, "num_train_epochs": 1.0},
    "mntp": {"per_device_train_batch_size": 32},
    "simcse": {"per_device_train_batch_size": 128, "learning_rate": 3e-5, "max_seq_length": 128},
    "supervised": {
        "per_device_train_batch_size": 64, "learning_rate": 2e-4, "warmup_steps": 300, "loss_scale": 50.0,
    },
    "distill": {"per_device_train_batch_size": 128, "learning_rate": 2e-4, "num_train_epochs": 1.0},
}  # fmt: skip

# Keys that mean something to some objectives only: elsewhere they would be ignored, which nobody would notice.
_ONLY_FOR = {
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
    "instructions": ("supervised", "distill"),
    "symmetric": ("supervised", "distill"),
    "corpus_root": ("supervised", "distill"),
    "max_negatives": ("supervised", "distill"),
    "matryoshka_dims": ("simcse", "supervised"),
    "mini_batch_tokens": ("simcse", "supervised", "distill"),
    "mask_identical": ("simcse", "supervised"),
    "false_negative_margin": ("simcse", "supervised"),
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
    "logging_strategy": "losses are logged every logging_steps",
    "remove_unused_columns": "only the fields needed are read",
    "disable_tqdm": "progress shows on a terminal only",
    "overwrite_cache": "there is no tokenization cache",
    "pad_to_max_length": "batches carry no padding",
    "preprocessing_num_workers": "the tokenizer uses every core",
    "use_fast_tokenizer": "tokenizers are fast ones",
    "low_cpu_mem_usage": "weights are memory-mapped",
    "ddp_find_unused_parameters": "the model's forward is the objective",
    "ddp_timeout": "one process",
    "loss_class": "the objective and the key loss name it",
    "experiment_id": "output_dir names the run",
}


def read_recipe(objective: str, path: str | Path, overrides: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """Read a JSON config for an objective.

    path       a file, or the name of a recipe that ships with ragvec, where no such file is ("MetaLlama3.json")
    overrides  "key=value" strings that win over the file; a value is JSON, or a string if it is none
    returns    the recipe, and notes on keys of the reference that change nothing here
    Raises RagvecError for an unreadable file, an unknown objective or key (naming the nearest), or a value of the wrong type.
    """
    if objective not in OBJECTIVES:
        raise RagvecError(f"unknown objective {objective!r}: choose one of {', '.join(OBJECTIVES)}")
    given = {**_read_json(_locate(objective, Path(path))), **dict(_parse_override(text) for text in overrides)}
    return make_recipe(objective, given, place=str(path))


def make_recipe(objective: str, given: dict[str, Any], *, place: str = "recipe") -> tuple[Recipe, list[str]]:
    """A recipe from keys and values; see read_recipe."""
    kinds = typing.get_type_hints(Recipe)
    values, notes = dict(_DEFAULTS[objective]), []
    for name, value in given.items():
        key = _SAME_KEY.get(name, name)
        if key in WITHOUT_EFFECT:
            notes.append(f"{name} has no effect: {WITHOUT_EFFECT[key]}")
            continue
        if key not in kinds:
            raise RagvecError(f"{place}: unknown key {name!r}{_nearest(name, kinds)}")
        if objective not in _ONLY_FOR.get(key, OBJECTIVES):
            notes.append(f"{name} has no effect: {objective} does not use it")
            continue
        values[key] = _fit(value, kinds[key], f"{place}: {name}")
    return _checked(Recipe(**values), place), notes


def explicit_defaults(objective: str) -> dict[str, Any]:
    """Every key that an objective uses, with its default: what the documentation lists."""
    values = {**asdict(Recipe()), **_DEFAULTS[objective]}
    return {item.name: values[item.name] for item in fields(Recipe) if objective in _ONLY_FOR.get(item.name, OBJECTIVES)}


def _checked(recipe: Recipe, place: str) -> Recipe:
    """Raise RagvecError for values that no run could use."""
    at_least_one = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_seq_length", "logging_steps",
                    "save_steps", "eval_steps")  # fmt: skip
    for name in at_least_one:
        if getattr(recipe, name) < 1:
            raise RagvecError(f"{place}: {name} is {getattr(recipe, name)}, must be at least 1")
    for name in ("mlm_probability", "simcse_dropout", "lora_dropout", "warmup_ratio"):
        if not 0 <= getattr(recipe, name) <= 1:
            raise RagvecError(f"{place}: {name} is {getattr(recipe, name)}, must lie between 0 and 1")
    for name, allowed in {
        "mask_token_type": ("blank", "eos", "mask"),
        "data_collator_type": ("default", "all_mask"),
        "loss": ("contrastive", "cosent"),
        "torch_dtype": (None, "auto", "float32", "bfloat16"),
        "save_dtype": (None, "float32", "bfloat16", "float16"),
    }.items():
        if getattr(recipe, name) not in allowed:
            choices = ", ".join(str(choice) for choice in allowed if choice)
            raise RagvecError(f"{place}: {name} is {getattr(recipe, name)!r}: choose one of {choices}")
    for name in ("num_train_epochs", "batch_tokens", "mini_batch_tokens", "max_train_samples", "distill_temperature"):
        value = getattr(recipe, name)
        if value is not None and value <= 0:
            raise RagvecError(f"{place}: {name} is {value}, must be above 0")
    if recipe.lora_r < 0:
        raise RagvecError(f"{place}: lora_r is {recipe.lora_r}: name a rank, or 0 to train every weight")
    if recipe.fsdp and recipe.eval_dataset:
        raise RagvecError(f"{place}: eval_dataset needs a whole model, which no process has with fsdp: use `ragvec eval` later")
    if not recipe.output_dir:
        raise RagvecError(f'{place}: no output_dir: add "output_dir": "…", the folder for the result')
    return recipe


def _fit(value: Any, kind: Any, place: str) -> Any:
    """The value as the key's type. Raises RagvecError if it is of another."""
    options = typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)
    for option in options:
        if _matches(value, option):
            return float(value) if option is float else value
        if typing.get_origin(option) is list and isinstance(value, str):
            return [value]  # one file where several may stand
    wanted = " or ".join(getattr(option, "__name__", str(option)) if typing.get_origin(option) is None else str(option)
                         for option in options if option is not type(None))  # fmt: skip
    raise RagvecError(f"{place} must be {wanted}, not {value!r:.60}")


def _matches(value: Any, kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(_matches(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_matches(one, inner[1]) for one in value.values())
    if origin in (Union, types.UnionType):
        return any(_matches(value, one) for one in inner)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _nearest(name: str, kinds: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, [*kinds, *WITHOUT_EFFECT], n=1, cutoff=0.6)
    return f": did you mean {near[0]!r}?" if near else ": docs/training.md lists the keys"


def shipped_recipes(objective: str) -> list[Path]:
    """The recipes for published and current base models that ship with ragvec."""
    return sorted(data_path(f"recipes/{objective}").glob("*.json"))


def _locate(objective: str, path: Path) -> Path:
    if path.parent == Path() and not path.exists():
        for shipped in shipped_recipes(objective):
            if shipped.name == path.name or shipped.stem == path.name:
                return shipped
        names = ", ".join(shipped.name for shipped in shipped_recipes(objective))
        if names:
            raise RagvecError(f"there is no file {path}, and no {objective} recipe of that name ships with ragvec: {names}")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RagvecError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RagvecError(f"{path} is not UTF-8 text: a recipe is a JSON file") from error
    except json.JSONDecodeError as error:
        raise RagvecError(f"{path}, line {error.lineno}: bad JSON: {error.msg}") from error
    if not isinstance(value, dict):
        raise RagvecError(f'{path} holds no JSON object: a recipe looks like {{"model_name_or_path": …}}')
    return value


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RagvecError(f"--set {text!r} is not key=value")
    try:
        return key.strip(), json.loads(value)
    except json.JSONDecodeError:
        return key.strip(), value
