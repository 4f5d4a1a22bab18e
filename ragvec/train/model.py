"""The model under training: loaded with earlier adapters merged, made ready for packed batches, LoRA added, parts frozen."""

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ragvec.encoder import Encoder, EncoderSettings
from ragvec.encoder.bidirectional import make_bidirectional, make_causal
from ragvec.encoder.forward import hidden_states
from ragvec.encoder.prompt import PromptBuilder
from ragvec.encoder.ready import compile_layers, complete, probe_model
from ragvec.encoder.sources import Source, locate
from ragvec.encoder.weights import DTYPES, add_adapter, choose_dtype, load_tokenizer, quiet, refuse_pickle
from ragvec.errors import RagvecError, first_line
from ragvec.recipe import Recipe
from ragvec.train.losses import head_cross_entropy
from ragvec.train.quantize import check_four_bit, to_four_bit
from ragvec.train.ranks import start_ranks


@dataclass(slots=True)
class Learner:
    """A model and what its objective needs of it.

    backbone   the transformer without its head; LoRA layers are injected into it
    whole      the backbone with its language-model head, where the objective predicts tokens
    adapter    the peft model around the backbone, where LoRA is trained
    found      where the weights came from; settings: of the encoder that results
    dtype      what matrices are multiplied in
    base_vocabulary  rows of the token embedding before a mask token was added
    """

    backbone: nn.Module
    tokenizer: object
    settings: EncoderSettings
    found: Source | None
    device: torch.device
    dtype: torch.dtype
    whole: nn.Module | None = None
    adapter: nn.Module | None = None
    prompts: PromptBuilder | None = None
    base_vocabulary: int = 0

    def __post_init__(self) -> None:
        self.base_vocabulary = self.backbone.get_input_embeddings().num_embeddings

    def hidden(self, ids: list[list[int]]) -> Tensor:
        """Last hidden states (tokens, dim) of texts lying end to end."""
        return hidden_states(self.backbone, ids, self.device, packed=bool(self.settings.packed))

    def predict_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the head's predictions from states (n, dim) for tokens (n,)."""
        head = self.whole.get_output_embeddings()
        scale, cap = _logit_shape(self.whole.config.get_text_config())
        return head_cross_entropy(hidden, head.weight, labels, bias=head.bias, scale=scale, cap=cap)


def load_learner(objective: str, recipe: Recipe) -> Learner:
    """Load what a recipe starts from. Raises RagvecError if something is missing or does not fit the objective."""
    check_four_bit(objective, recipe)
    device = start_ranks(recipe.device)
    dtype = _compute_dtype(recipe, device)
    if objective in ("clm", "mntp"):
        return _load_language_model(objective, recipe, device, dtype)
    encoder = Encoder.load(
        _start(recipe),
        revision=recipe.model_revision,
        device=str(device),
        dtype=_weights_dtype(recipe, dtype),
        adapters=_adapters(recipe),
        pooling=recipe.pooling_mode,
        attention={None: None, True: "bidirectional", False: "causal"}[recipe.bidirectional],
        max_length=recipe.max_seq_length,
    )
    found = locate(_start(recipe), revision=recipe.model_revision, adapters=_adapters(recipe))
    lengths = {"max_length": found.settings.max_length, "doc_max_length": found.settings.doc_max_length}
    settings = replace(encoder.settings, **lengths)  # max_seq_length is of the training texts alone
    if objective == "supervised" and recipe.instruction:
        settings = replace(settings, query_instruction=recipe.instruction)
    return Learner(encoder.model, encoder.tokenizer, settings, found, device, dtype, prompts=encoder.prompts)


def add_trainable_parts(learner: Learner, objective: str, recipe: Recipe) -> None:
    """Decide what is trained: LoRA or everything, the head if asked, less what is to be frozen.

    Raises RagvecError if a part to freeze is not there, nothing is left to train, or the head can't be trained apart.
    """
    if recipe.load_in_4bit:
        to_four_bit(learner.backbone, learner.dtype)
    if recipe.lora_r:
        learner.adapter = _inject_lora(learner.backbone, recipe)
        if learner.dtype is not torch.float32:
            _multiply_as_autocast_says(learner.adapter)
    else:
        learner.backbone.requires_grad_(True)
    if learner.whole is not None:
        _choose_head(learner, objective, recipe)
    if recipe.freeze_embeddings:
        learner.backbone.get_input_embeddings().requires_grad_(False)
    for part in recipe.freeze:
        _freeze(learner.whole or learner.backbone, part)
    if objective == "simcse":
        set_attention_dropout(learner.backbone, recipe.simcse_dropout)
    if recipe.gradient_checkpointing:
        _recompute_activations(learner.backbone)
    if recipe.torch_compile:
        compile_layers(learner.backbone, bool(learner.settings.packed))


def add_embedding_row(whole: nn.Module, token: int) -> None:
    """Give a language model a token more than it has; what was frozen stays frozen."""
    before = [part.weight.requires_grad for part in (whole.get_input_embeddings(), whole.get_output_embeddings())]
    whole.resize_token_embeddings(token + 1, mean_resizing=False)
    for part, trained in zip((whole.get_input_embeddings(), whole.get_output_embeddings()), before, strict=True):
        part.weight.requires_grad_(trained)


def lora_targets(backbone: nn.Module) -> list[str]:
    """The names of every linear layer in a backbone: for Llama q, k, v, o, gate, up and down, as the reference has it."""
    from transformers.pytorch_utils import Conv1D

    return sorted({name.rsplit(".", 1)[-1] for name, part in backbone.named_modules() if isinstance(part, (nn.Linear, Conv1D))})


def set_attention_dropout(backbone: nn.Module, rate: float) -> None:
    """Drop attention weights at a rate while training. Raises RagvecError if the architecture has no such dropout."""
    changed = 0
    for part in backbone.modules():
        for name in ("attention_dropout", "attn_dropout"):
            value = getattr(part, name, None)
            if isinstance(value, nn.Dropout):
                value.p, changed = rate, changed + 1
            elif isinstance(value, float):
                setattr(part, name, rate)
                changed += 1
    if not changed:
        raise RagvecError(f"{backbone.config.model_type} has no attention dropout: SimCSE needs it, choose another base model")


def _recompute_activations(backbone: nn.Module) -> None:
    # transformers 5.2x has renamed it and warns about the old name
    enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _load_language_model(objective: str, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> Learner:
    found = None
    if recipe.config_name:
        whole, tokenizer = _from_config(recipe), load_tokenizer(Path(recipe.tokenizer_name or _start(recipe)))
        settings = EncoderSettings()
    else:
        found = locate(_start(recipe), revision=recipe.model_revision, adapters=_adapters(recipe))
        whole = _load_with_head(found, _weights_dtype(recipe, dtype))
        tokenizer = load_tokenizer(Path(recipe.tokenizer_name) if recipe.tokenizer_name else found.tokenizer)
        settings = complete(found.settings, whole.base_model, tokenizer, found)  # evaluation reads texts as the result will
    if len(tokenizer) > whole.config.get_text_config().vocab_size:
        raise RagvecError(
            f"the tokenizer has {len(tokenizer):,} tokens, the model {whole.config.get_text_config().vocab_size:,}: "
            "they do not belong together; raise vocab_size in the config or name another tokenizer"
        )
    backbone = whole.base_model
    causal = objective == "clm" or recipe.bidirectional is False
    (make_causal if causal else make_bidirectional)(backbone)
    whole.to(device).eval()
    settings = replace(settings, packed=probe_model(backbone).packs, attention="causal" if causal else "bidirectional")
    return Learner(backbone, tokenizer, settings, found, device, dtype, whole=whole)


def _from_config(recipe: Recipe) -> nn.Module:
    """A causal language model with random weights, from a configuration file or folder."""
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed

    if not (recipe.tokenizer_name or recipe.model_name_or_path):
        raise RagvecError('config_name makes a new model: add "tokenizer_name", the folder of its tokenizer')
    path = Path(recipe.config_name)
    try:
        text = (path / "config.json" if path.is_dir() else path).read_text(encoding="utf-8")
        values = json.loads(text)
        config = AutoConfig.for_model(values.pop("model_type"), **values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RagvecError(f"{path} is not a readable model configuration with a model_type: {error}") from error
    set_seed(recipe.seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _load_with_head(found: Source, dtype: str) -> nn.Module:
    """The decoder with its language-model head, earlier adapters merged. Raises RagvecError if there is no head."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    refuse_pickle(found.base)
    try:
        with quiet(show_progress=False):
            whole, report = AutoModelForCausalLM.from_pretrained(
                found.base, dtype=dtype if dtype == "auto" else DTYPES[dtype], output_loading_info=True,
                trust_remote_code=False, use_safetensors=True, local_files_only=True,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RagvecError(f"{found.base} does not load as a causal language model: {first_line(error)}") from error
    if report["missing_keys"]:
        raise RagvecError(
            f"{found.base} holds no language-model head ({sorted(report['missing_keys'])[0]} is missing): "
            "start from the decoder, not from the encoder made of it"
        )
    for adapter in found.adapters:
        add_adapter(whole.base_model, adapter, merge=True)  # in place
    return whole


def _inject_lora(backbone: nn.Module, recipe: Recipe) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    present = lora_targets(backbone)
    absent = [name for name in recipe.lora_modules if name not in present]
    if absent:
        raise RagvecError(f"lora_modules: the model has no linear layer {absent[0]!r}: choose from {', '.join(present)}")
    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha or 2 * recipe.lora_r,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_modules or present,
        fan_in_fan_out=backbone.config.model_type == "gpt2",  # its layers are stored transposed
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


def _choose_head(learner: Learner, objective: str, recipe: Recipe) -> None:
    head = learner.whole.get_output_embeddings()
    tied = head.weight is learner.backbone.get_input_embeddings().weight
    if objective == "clm" or recipe.train_lm_head:
        if tied and recipe.lora_r and recipe.train_lm_head:
            raise RagvecError("train_lm_head: this model's head is its token embedding, which LoRA keeps: set lora_r to 0")
        if not (tied and recipe.lora_r):
            head.to(torch.float32).requires_grad_(True)  # small steps vanish in bfloat16
    elif not tied:
        head.requires_grad_(False)


def _freeze(model: nn.Module, part: str) -> None:
    hit = [weight for name, weight in model.named_parameters() if part in name]
    if not hit:
        names = ", ".join(name for name, _ in list(model.named_parameters())[:3])
        raise RagvecError(f"freeze: no weight's name contains {part!r}: names look like {names}")
    for weight in hit:
        weight.requires_grad_(False)


def _logit_shape(config) -> tuple[float, float | None]:
    """What a family does to its logits: a factor (Cohere, Granite), a tanh cap (Gemma 2)."""
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
    return scale, getattr(config, "final_logit_softcapping", None)


def _start(recipe: Recipe) -> str:
    if not recipe.model_name_or_path:
        raise RagvecError('no model_name_or_path: add the folder or hub id to start from (or "config_name" for clm)')
    return recipe.model_name_or_path


def _adapters(recipe: Recipe) -> tuple[str, ...]:
    return (*([recipe.peft_model_name_or_path] if recipe.peft_model_name_or_path else []), *recipe.extra_model_name_or_path)


def _compute_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    if recipe.torch_dtype in (None, "auto"):
        chosen = choose_dtype(None, device)
        return torch.float32 if chosen is torch.float16 else chosen  # float16 would need its losses scaled
    return DTYPES[recipe.torch_dtype]


def _weights_dtype(recipe: Recipe, compute: torch.dtype) -> str:
    """What weights are kept in: float32 where they are trained, since small steps vanish in bfloat16; else as stored."""
    if recipe.lora_r == 0 or compute is torch.float32:
        return "float32"
    return "auto" if recipe.torch_dtype in (None, "auto") else recipe.torch_dtype
