"""LoRA adapters upon a model without its head, whatever kind of model they were trained on."""

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ragvec.encoder.door import foreign
from ragvec.errors import NotFound, WrongInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROOT = "base_model.model."
LANGUAGE_HEADS = "lm_head|embed_out|output_projection"  # the names that heads have in decoders' files
_HEAD = re.compile(rf"(^|\.)({LANGUAGE_HEADS}|score|classifier)\.")
_SAVED_HEAD = re.compile(rf"{re.escape(_ROOT)}({LANGUAGE_HEADS})\.(modules_to_save\.|base_layer\.)?weight")
_COPY = re.compile(r"\.(modules_to_save|original_module)\.")
_APART = "can't be merged; in Python merge=False loads it apart"
_EMBEDDING = re.compile(
    r"\.(embed_tokens|wte|word_embeddings|embed_in)(\.(modules_to_save|base_layer|original_module))*\.weight$"
)


def add_adapter(model: "PreTrainedModel", folder: Path, *, merge: bool, name: str = "default") -> "PreTrainedModel":
    """The model with a LoRA adapter of the folder upon it; merge: folded into its weights, in place.

    name  of the adapter, where others stay beside it

    What an adapter of a language model says of the head is left out (`saved_head` has it); where it has more tokens than the
    model, the model gets them.
    Raises RagvecError for an adapter that does not fit, or that is none of weights.
    """
    from peft import PeftConfig, PeftModel, set_peft_model_state_dict

    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise NotFound(
            f"{folder} holds no adapter_model.safetensors (pickled .bin adapters are not loaded): save it as safetensors"
        )
    with warnings.catch_warnings(), foreign(f"the adapter {folder} does not fit its base model"):
        warnings.simplefilter("ignore")  # peft warns of stored weights that are missing: here they are an error
        config = PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning:
            raise WrongInput(f"the adapter {folder} is of type {config.peft_type.value}: only those of weights load here")
        if merge and getattr(config, "layer_replication", None):  # what is added to one copy would be in all
            raise WrongInput(f"the adapter {folder} repeats layers (layer_replication), so it {_APART}")
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        _without_head(config, bare)
        weights = _of_backbone(load_file(path), bare)
        _make_room(bare, weights)
        if bare is model:
            adapted = PeftModel(model, config, adapter_name=name)
        else:
            adapted = model
            adapted.add_adapter(name, config)
        result = set_peft_model_state_dict(adapted, weights, adapter_name=name)
        missing = [key for key in adapted.state_dict() if _is_of_adapter(key, name) and key in result.missing_keys]
    lost = missing or list(result.unexpected_keys)
    if lost:
        does = "lacks" if missing else "has weights for"
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise WrongInput(f"the adapter {folder} does not fit its base model: it {does} {lost[0]}{more}")
    adapted.eval()
    if not merge:
        return adapted
    with foreign(f"the adapter {folder} {_APART}"):
        return adapted.merge_and_unload()


def saved_head(folder: Path) -> Tensor | None:
    """The weight of the language-model head (tokens, dim) that an adapter's folder holds whole; None if it holds none."""
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        name = next(filter(_SAVED_HEAD.fullmatch, sorted(weights.keys())), None)
        return None if name is None else weights.get_tensor(name)


def _without_head(config: Any, model: "PreTrainedModel") -> None:
    """Have an adapter's configuration speak of the model without its head: of other layers, under other names."""
    config.task_type = None  # a causal language model's would ask for its head
    config.inference_mode = True
    prefix = "" if hasattr(model, model.base_model_prefix) else re.escape(model.base_model_prefix)

    def bare(name: str) -> str:  # or a pattern's beginning, as `^model.layers` and `model\.layers`
        return re.sub(rf"^(\^|\\b)?{prefix}\\?\.", r"\1", name) if prefix else name

    for listed in ("target_modules", "exclude_modules", "modules_to_save"):
        names = getattr(config, listed, None)
        if isinstance(names, str):
            setattr(config, listed, bare(names))
        elif names:
            setattr(config, listed, sorted({bare(name) for name in names if not _HEAD.search(f"{name}.")}) or None)
    for pattern in ("rank_pattern", "alpha_pattern"):
        values = getattr(config, pattern, None) or {}
        setattr(config, pattern, {bare(name): value for name, value in values.items()})
    if getattr(config, "layers_to_transform", None) is not None and not config.layers_pattern:  # peft looks for `.layers.`
        lists = (name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.ModuleList))
        config.layers_pattern = next(lists, None)


def _is_of_adapter(name: str, adapter: str) -> bool:
    parts = ("lora_", ".modules_to_save.", "trainable_tokens", "ia3_", "hada_", "lokr_")
    return f".{adapter}" in name and any(part in name for part in parts)


def _is_copy(name: str, weights: dict[str, Tensor]) -> bool:
    """Whether a weight stands there under its own name, too: peft writes a resized embedding that is saved three times."""
    return _COPY.search(name) is not None and _COPY.sub(".", name) in weights


def _of_backbone(weights: dict[str, Tensor], model: "PreTrainedModel") -> dict[str, Tensor]:
    """The weights under the names that they have in a model without a head."""
    inner = f"{_ROOT}{model.base_model_prefix}."
    has_it = hasattr(model, model.base_model_prefix)
    kept = {name: weight for name, weight in weights.items() if not (_HEAD.search(name) or _is_copy(name, weights))}
    if has_it:
        return kept
    return {_ROOT + name.removeprefix(inner) if name.startswith(inner) else name: weight for name, weight in kept.items()}


def _make_room(model: "PreTrainedModel", weights: dict[str, Tensor]) -> None:
    """Give the model as many tokens as the adapter's own embedding has."""
    rows = [weight.shape[0] for name, weight in weights.items() if _EMBEDDING.search(name)]
    if rows and rows[0] != model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(rows[0], mean_resizing=False)
