"""Chat templates of the published models; looked up once, at conversion, then stored in the encoder's own configuration."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Template:
    """What surrounds instruction and text. `eos` ends the prompt in eos_token pooling only."""

    prefix: str = ""
    suffix: str = ""
    eos: str = ""


_LLAMA_3 = ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>")
_INST = ("[INST] ", " [/INST]")
_GEMMA = ("<bos><start_of_turn>user\n", "<end_of_turn>")  # the tokenizer adds <bos> too: doubled, as the models were trained
_QWEN = ("<|im_start|>user\n", "<|im_end|>")

# base model name → (prefix, suffix), as the reference's prepare_for_tokenization has them
_BY_NAME = {
    "meta-llama/Meta-Llama-3-8B-Instruct": _LLAMA_3,
    "meta-llama/Llama-2-7b-chat-hf": _INST,
    "mistralai/Mistral-7B-Instruct-v0.2": _INST,
    "google/gemma-2-9b-it": _GEMMA,
    "Qwen/Qwen2-1.5B-Instruct": _QWEN,
    "Qwen/Qwen2-7B-Instruct": _QWEN,
}
# model_type → how a text ends in eos_token pooling, where the vocabulary has that token
_EOS_BY_TYPE = {"llama": "</s>", "mistral": "</s>", "gemma": "<eos>", "gemma2": "<eos>", "qwen2": "<|endoftext|>"}
_WITHOUT_EOS = {"meta-llama/Meta-Llama-3-8B-Instruct"}  # the reference ends these in <|eot_id|> alone


def published_with(template: Template) -> str:
    """The name of a published model with this prefix and suffix; "" where none has them, or there are none."""
    return next((name for name, around in _BY_NAME.items() if around == (template.prefix, template.suffix)), "")


def find_template(base_model: str, model_type: str, tokenizer: "PreTrainedTokenizerBase") -> Template:
    """The template the reference uses for a base model, named as on the hub.

    base_model  hub id, or a local path whose last two parts are one ("…/meta-llama/Llama-2-7b-chat-hf")
    tokenizer   a transformers tokenizer; its eos token ends prompts of families the reference does not know
    """
    name = "/".join(base_model.replace("\\", "/").rstrip("/").split("/")[-2:])
    prefix, suffix = _BY_NAME.get(name, ("", ""))
    if name in _WITHOUT_EOS:
        return Template(prefix, suffix)
    eos = _EOS_BY_TYPE.get(model_type)
    if eos is None or eos not in tokenizer.get_vocab():
        eos = tokenizer.eos_token or ""
    return Template(prefix, suffix, f" {eos}" if eos == "</s>" else eos)
