"""The model under training: loaded with earlier adapters merged, made ready for packed batches."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ragvec.encoder import Encoder, EncoderSettings
from ragvec.encoder.adapter import add_adapter, saved_head
from ragvec.encoder.bidirectional import make_bidirectional, make_causal
from ragvec.encoder.device import device_of
from ragvec.encoder.door import foreign
from ragvec.encoder.forward import hidden_states
from ragvec.encoder.gguf import load_gguf
from ragvec.encoder.pooling import poolings_of
from ragvec.encoder.projection import Projections
from ragvec.encoder.prompt import PromptBuilder
from ragvec.encoder.ready import complete, probe_model
from ragvec.encoder.sources import Source, locate
from ragvec.encoder.weights import DTYPES, check_loads, choose_dtype, load_tokenizer, quiet
from ragvec.errors import NotFound, WrongInput, WrongUsage, first_line
from ragvec.files import read_described
from ragvec.train.losses import head_cross_entropy
from ragvec.train.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(slots=True)
class Learner:
    """A model and what its objective needs of it.

    backbone   the transformer without its head; LoRA layers are injected into it
    settings   of the encoder that results; found: where the weights came from, None for random ones
    dtype      what matrices are multiplied in
    whole      the backbone with its language-model head, where the objective predicts tokens
    adapter    the peft model around the backbone, where LoRA is trained
    prompts    how texts become prompts, where the objective is on whole texts
    projections  the linear layers behind the pooling, which stay as they are
    base_vocabulary  rows of the token embedding before a mask token was added
    """

    backbone: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    settings: EncoderSettings
    found: Source | None
    device: torch.device
    dtype: torch.dtype
    whole: "PreTrainedModel | None" = None
    adapter: "PeftModel | None" = None
    prompts: PromptBuilder | None = None
    base_vocabulary: int = 0
    projections: Projections = field(default_factory=Projections)

    def __post_init__(self) -> None:
        self.base_vocabulary = embedding_of(self.backbone).num_embeddings

    @property
    def language_model(self) -> "PreTrainedModel":
        """The backbone with its head, of an objective that predicts tokens."""
        assert self.whole is not None
        return self.whole

    @property
    def prompt_builder(self) -> PromptBuilder:
        """How texts become prompts, of an objective on whole texts."""
        assert self.prompts is not None
        return self.prompts

    @property
    def width(self) -> int:
        """The dimension of a text's vector, before any is cut off."""
        states = embedding_of(self.backbone).embedding_dim
        return self.projections.width(states * poolings_of(self.settings.pooling))

    def hidden(self, ids: list[list[int]]) -> Tensor:
        """Last hidden states (tokens, dim) of texts lying end to end."""
        return hidden_states(self.backbone, ids, self.device, packed=bool(self.settings.packed))

    def send(self, numbers: Tensor) -> Tensor:
        """A host's tensor on the model's device; a GPU is not waited for."""
        return device_of(self.device).send(numbers)

    def predict_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the head's predictions from states (n, dim) for tokens (n,)."""
        head = self.language_model.get_output_embeddings()
        scale, cap = _logit_shape(self.language_model.config.get_text_config())
        return head_cross_entropy(hidden, head.weight, labels, bias=head.bias, scale=scale, cap=cap)


def load_encoder(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> Learner:
    """An encoder to go on with: what `Encoder.load` makes of the recipe's start, earlier adapters merged.

    Its instructions are the recipe's where it names some: they are trained, and become the resulting encoder's own.
    """
    encoder = Encoder.load(
        start_of(recipe),
        revision=recipe.model_revision,
        offline=recipe.offline,
        device=str(device),
        dtype=_weights_dtype(recipe, dtype),
        adapters=_adapters(recipe),
        pooling=recipe.pooling_mode,
        attention=None if recipe.bidirectional is None else "bidirectional" if recipe.bidirectional else "causal",
        max_length=recipe.max_seq_length,
        query_instruction=recipe.instruction,
        document_instruction=recipe.document_instruction,
    )
    found = _locate(recipe)
    # max_seq_length is of the training texts alone
    own = complete(found.settings, encoder.model, encoder.tokenizer)
    settings = replace(encoder.settings, max_length=own.max_length, doc_max_length=own.doc_max_length)
    return Learner(
        encoder.model, encoder.tokenizer, settings, found, device=device, dtype=dtype, prompts=encoder.prompts,
        projections=encoder.projections,
    )  # fmt: skip


def embedding_of(model: nn.Module) -> nn.Embedding:
    """The token embedding of a transformers model."""
    return cast(nn.Embedding, cast("PreTrainedModel", model).get_input_embeddings())


def config_of(model: nn.Module) -> Any:
    """The configuration of a transformers model."""
    return model.config


def add_embedding_row(whole: "PreTrainedModel", token: int) -> None:
    """Give a language model a token more than it has; what was frozen stays frozen."""
    before = [part.weight.requires_grad for part in (whole.get_input_embeddings(), whole.get_output_embeddings())]
    whole.resize_token_embeddings(token + 1, mean_resizing=False)
    for part, trained in zip((whole.get_input_embeddings(), whole.get_output_embeddings()), before, strict=True):
        part.weight.requires_grad_(trained)


def load_language_model(recipe: Recipe, device: torch.device, dtype: torch.dtype, *, causal: bool) -> Learner:
    """A decoder with its head, loaded or new; causal: a token sees those before it alone, else all.

    Raises RagvecError if there is no head, or the tokenizer is of another model.
    """
    found = None
    if recipe.config_name:
        whole, tokenizer = (
            _from_config(recipe, recipe.config_name),
            load_tokenizer(_tokenizer_folder(recipe) or Path(start_of(recipe))),
        )
        settings = EncoderSettings()
    else:
        found = _locate(recipe)
        whole = _load_with_head(found, _weights_dtype(recipe, dtype))
        tokenizer = load_tokenizer(_tokenizer_folder(recipe) or found.tokenizer)
        settings = complete(found.settings, whole.base_model, tokenizer)  # evaluation reads texts as the result will
    if len(tokenizer) > whole.config.get_text_config().vocab_size:
        raise WrongInput(
            f"the tokenizer has {len(tokenizer):,} tokens, the model {whole.config.get_text_config().vocab_size:,}: "
            "they do not belong together; raise vocab_size in the config or name another tokenizer"
        )
    backbone = whole.base_model
    (make_causal if causal else make_bidirectional)(backbone)
    whole.to(device).eval()
    settings = replace(settings, packed=probe_model(backbone).packs, attention="causal" if causal else "bidirectional")
    return Learner(backbone, tokenizer, settings, found, device=device, dtype=dtype, whole=whole)


def _tokenizer_folder(recipe: Recipe) -> Path | None:
    """The folder of the tokenizer that a recipe names, if it names one. Raises NotFound if there is none."""
    if recipe.tokenizer_name is None:
        return None
    folder = Path(recipe.tokenizer_name).expanduser()
    if not folder.is_dir():
        raise NotFound(f"tokenizer_name: there is no folder {folder}: name one that holds a tokenizer")
    return folder


def _from_config(recipe: Recipe, config_name: str) -> "PreTrainedModel":
    """A causal language model with random weights, from a configuration file or folder."""
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed

    if not (recipe.tokenizer_name or recipe.model_name_or_path):
        raise WrongUsage('config_name makes a new model: add "tokenizer_name", the folder of its tokenizer')
    path = Path(config_name)
    try:
        values = json.loads(read_described(path / "config.json" if path.is_dir() else path))
        config = AutoConfig.for_model(values.pop("model_type"), **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongInput(f"{path} is not a readable model configuration with a model_type: {error}") from error
    set_seed(recipe.seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _load_with_head(found: Source, dtype: str) -> "PreTrainedModel":
    """The decoder with its language-model head, earlier adapters merged. Raises RagvecError if there is no head."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    check_loads(found.base)
    try:
        precision = dtype if dtype == "auto" else DTYPES[dtype]
        with quiet(show_progress=False):
            if found.base.is_file():
                whole, report = load_gguf(found.base, dtype=precision, with_head=True)
            else:
                whole, report = AutoModelForCausalLM.from_pretrained(
                    found.base, dtype=precision, output_loading_info=True,
                    trust_remote_code=False, use_safetensors=True, local_files_only=True,
                )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise WrongInput(f"{found.base} does not load as a causal language model: {first_line(error)}") from error
    if report["missing_keys"]:
        raise WrongInput(
            f"{found.base} holds no language-model head ({sorted(report['missing_keys'])[0]} is missing): "
            "start from the decoder, not from the encoder made of it"
        )
    for adapter in found.adapters:
        add_adapter(whole.base_model, adapter, merge=True)  # in place
        _follow_with_head(whole, adapter)
    return whole


def _follow_with_head(whole: "PreTrainedModel", adapter: Path) -> None:
    """Give the head the tokens that an adapter has added to the embedding, and its weights where the adapter saves them."""
    rows = embedding_of(whole).num_embeddings
    if whole.get_output_embeddings().weight.shape[0] != rows:
        whole.resize_token_embeddings(rows, mean_resizing=False)
    head, saved = whole.get_output_embeddings(), saved_head(adapter)
    if saved is not None and head.weight is not embedding_of(whole).weight:
        with foreign(f"the adapter {adapter} does not fit its base model"), torch.no_grad():
            head.weight.copy_(saved)


def _logit_shape(config: Any) -> tuple[float, float | None]:
    """What a family does to its logits: a factor (Cohere, Granite), a tanh cap (Gemma 2)."""
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
    return scale, getattr(config, "final_logit_softcapping", None)


def start_of(recipe: Recipe) -> str:
    """The model that a recipe starts from. Raises WrongInput if it names none."""
    if not recipe.model_name_or_path:
        raise WrongUsage('no model_name_or_path: add the folder or hub id to start from (or "config_name" for clm)')
    return recipe.model_name_or_path


def _locate(recipe: Recipe) -> Source:
    return locate(start_of(recipe), revision=recipe.model_revision, adapters=_adapters(recipe), offline=recipe.offline)


def _adapters(recipe: Recipe) -> tuple[str, ...]:
    return (*([recipe.peft_model_name_or_path] if recipe.peft_model_name_or_path else []), *recipe.extra_model_name_or_path)


def compute_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What matrices are multiplied in."""
    if recipe.torch_dtype in (None, "auto"):
        chosen = choose_dtype(None, device)
        return torch.float32 if chosen is torch.float16 else chosen  # float16 would need its losses scaled
    return DTYPES[recipe.torch_dtype]


def _weights_dtype(recipe: Recipe, compute: torch.dtype) -> str:
    """What weights are kept in: float32 where they are trained, since small steps vanish in bfloat16; else as stored."""
    if recipe.lora_r == 0 or compute is torch.float32:
        return "float32"
    return "auto" if recipe.torch_dtype in (None, "auto") else recipe.torch_dtype
