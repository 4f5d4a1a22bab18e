"""Switch a stock transformers model between causal and bidirectional attention, and refuse what can't be switched."""

from typing import TYPE_CHECKING

from ragvec.errors import RagvecError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# Families whose layers mix tokens by recurrence: there is no attention mask to open.
_RECURRENT = {
    "bamba",
    "falcon_h1",
    "falcon_mamba",
    "granitemoehybrid",
    "jamba",
    "lfm2",
    "lfm2_moe",
    "mamba",
    "mamba2",
    "nemotron_h",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_next",
    "recurrent_gemma",
    "rwkv",
    "xlstm",
    "zamba",
    "zamba2",
}


def make_bidirectional(model: "PreTrainedModel") -> None:
    """Let every token of a decoder attend to every other, in place.

    transformers builds its masks from the config's flag and flash kernels read the module's, so both are set.
    Raises RagvecError, by name and reason, for a model that has no causal mask to open.
    Source: LLM2Vec (BehnamGhader et al., 2024), section 2.1.
    """
    refuse_unconvertible(model.config)
    _set_causal(model, False)


def reads_both_ways(config: "PreTrainedConfig") -> bool:
    """Whether a decoder's configuration says that it attends in both directions.

    transformers builds its masks by that; the modules' own flags, which packed batches go by, stay causal.
    """
    return getattr(config.get_text_config(), "is_causal", None) is False


def make_causal(model: "PreTrainedModel") -> None:
    """Restore a decoder's own causal attention, in place."""
    _set_causal(model, True)


def refuse_unconvertible(config: "PreTrainedConfig") -> None:
    """Raise RagvecError if a model of this configuration can't attend in both directions."""
    kind = config.model_type
    if kind in _RECURRENT:
        raise RagvecError(
            f"{kind} can't be converted: its layers are recurrent (state space or linear attention) and read text in one "
            "direction only; choose a base model with softmax attention, such as llama, mistral, qwen3 or gemma"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise RagvecError(f"{kind} can't be converted: it is an encoder-decoder model; choose a decoder-only base model")


def _set_causal(model: "PreTrainedModel", causal: bool) -> None:
    for config in (model.config, *(getattr(model.config, name, None) for name in model.config.sub_configs)):
        if config is not None:
            config.is_causal = causal
    for module in model.modules():
        if isinstance(getattr(module, "is_causal", None), bool):
            module.is_causal = causal
