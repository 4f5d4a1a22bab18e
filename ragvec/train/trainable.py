"""From a recipe to the model that learns: loaded as its objective asks, LoRA added, parts frozen."""

import warnings
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import nn

from ragvec.encoder.ready import compile_layers
from ragvec.errors import WrongUsage
from ragvec.train.lora import quicken
from ragvec.train.model import Learner, compute_dtype, config_of, embedding_of
from ragvec.train.objectives import objective_of
from ragvec.train.quantize import check_four_bit, to_four_bit
from ragvec.train.ranks import start_ranks
from ragvec.train.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_EVALUATION_S = 86_400  # that processes wait for one that measures retrieval; torch's own limit is 10 minutes on GPUs


def load_learner(recipe: Recipe) -> Learner:
    """Load what a recipe starts from. Raises RagvecError if something is missing or does not fit the objective."""
    objective = objective_of(recipe)
    check_four_bit(recipe, makes_decoder=objective.makes_decoder)
    device = join_ranks(recipe)
    return objective.load(recipe, device, compute_dtype(recipe, device))


def join_ranks(recipe: Recipe) -> torch.device:
    """Join the other processes of a run, if a launcher started several; returns the device of this one."""
    seconds = recipe.ddp_timeout
    if seconds is None and recipe.eval_dataset is not None:
        seconds = _EVALUATION_S  # one process measures, and the others wait for it
    return start_ranks(recipe.device, None if seconds is None else timedelta(seconds=seconds))


def add_trainable_parts(learner: Learner, recipe: Recipe) -> None:
    """Decide what is trained: LoRA or everything, the head if asked, less what is to be frozen.

    Raises RagvecError if a part to freeze is not there, nothing is left to train, or the head can't be trained apart.
    """
    if recipe.load_in_4bit:
        to_four_bit(learner.backbone, learner.dtype)
    if recipe.lora_r:
        learner.adapter = _inject_lora(learner.backbone, recipe)
        if learner.dtype is not torch.float32:
            _multiply_as_autocast_says(learner.adapter)
        if learner.device.type == "cpu" and not recipe.torch_compile:
            quicken(learner.adapter)
    else:
        learner.backbone.requires_grad_(True)
    if learner.whole is not None:
        _choose_head(learner, recipe)
    if recipe.freeze_embeddings:
        embedding_of(learner.backbone).requires_grad_(False)
    for part in recipe.freeze:
        _freeze(learner.whole or learner.backbone, part)
    kept = learner.language_model if objective_of(recipe).makes_decoder else learner.backbone  # of which the result is made
    if not any(weight.requires_grad for weight in kept.parameters()):
        raise WrongUsage("freeze, freeze_embeddings: every weight of the result is frozen, nothing would be learned")
    objective_of(recipe).adjust(learner, recipe)
    if recipe.gradient_checkpointing:
        _recompute_activations(learner.backbone)
    if recipe.torch_compile:
        compile_layers(learner.backbone, bool(learner.settings.packed))


def lora_targets(backbone: nn.Module) -> list[str]:
    """The names of every linear layer in a backbone: for Llama q, k, v, o, gate, up and down, as the reference has it."""
    from transformers.pytorch_utils import Conv1D

    return sorted({name.rsplit(".", 1)[-1] for name, part in backbone.named_modules() if isinstance(part, (nn.Linear, Conv1D))})


def _recompute_activations(backbone: "PreTrainedModel") -> None:
    # transformers 5.2x has renamed it and warns about the old name
    enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _inject_lora(backbone: "PreTrainedModel", recipe: Recipe) -> "PeftModel":
    from peft import LoraConfig, get_peft_model

    present = lora_targets(backbone)
    absent = [name for name in recipe.lora_modules if name not in present]
    if absent:
        raise WrongUsage(f"lora_modules: the model has no linear layer {absent[0]!r}: choose from {', '.join(present)}")
    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha or 2 * recipe.lora_r,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_modules or present,
        fan_in_fan_out=config_of(backbone).model_type == "gpt2",  # its layers are stored transposed
        bias="none",
        task_type=None,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")  # peft 0.21 on transformers 5
        return get_peft_model(backbone, config)


def _multiply_as_autocast_says(adapter: nn.Module) -> None:
    """Let LoRA layers take their inputs as they come: peft widens each to float32, and autocast narrows it again.

    For good rather than in a context: recomputed activations and cached gradients call the layers on the way back, too.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in adapter.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = False


def _choose_head(learner: Learner, recipe: Recipe) -> None:
    head = learner.language_model.get_output_embeddings()
    tied = head.weight is embedding_of(learner.backbone).weight
    if objective_of(recipe).trains_head(recipe):
        if tied and recipe.lora_r and recipe.train_lm_head:
            raise WrongUsage("train_lm_head: this model's head is its token embedding, which LoRA keeps: set lora_r to 0")
        if not (tied and recipe.lora_r):
            head.to(torch.float32).requires_grad_(True)  # small steps vanish in bfloat16
    elif not tied:
        head.requires_grad_(False)


def _freeze(model: nn.Module, part: str) -> None:
    hit = [weight for name, weight in model.named_parameters() if part in name]
    if not hit:
        names = ", ".join(name for name, _ in list(model.named_parameters())[:3])
        raise WrongUsage(f"freeze: no weight's name contains {part!r}: names look like {names}")
    for weight in hit:
        weight.requires_grad_(False)
