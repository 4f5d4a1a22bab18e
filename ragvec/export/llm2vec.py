"""The layout that the reference (llm2vec 0.2.3, transformers 4.44) reads: merged weights and llm2vec_config.json."""

from pathlib import Path
from typing import Any

from ragvec.encoder import Encoder
from ragvec.encoder.instruction import has_places
from ragvec.encoder.templates import Template, published_with
from ragvec.errors import RagvecError
from ragvec.export.plain import read_json, set_tokenizer_options
from ragvec.files import write_json

_FAMILIES = ("llama", "mistral", "gemma")
_POOLINGS = ("mean", "weighted_mean", "eos_token", "last_token", "bos_token")


def write_llm2vec(encoder: Encoder, folder: Path) -> list[str]:
    """Add llm2vec_config.json, and write configuration and tokenizer as the reference's transformers reads them.

    Raises RagvecError for what the reference can't be told.
    """
    settings = encoder.settings
    _refuse(encoder)
    config = _older_config(read_json(folder / "config.json"))
    # the reference knows a chat template by this name alone
    config["_name_or_path"] = published_with(settings.template or Template())
    write_json(folder / "config.json", config)
    set_tokenizer_options(folder, encoder, model_max_length=settings.max_length)
    _use_older_merges(folder / "tokenizer.json")
    write_json(
        folder / "llm2vec_config.json",
        {
            "pooling_mode": settings.pooling,
            "max_length": settings.max_length,
            "doc_max_length": settings.doc_max_length,
            "skip_instruction": settings.skip_instruction,
        },
    )
    notes = [
        "the reference stores no instruction: pass "
        f"[[{settings.query_instruction!r}, query], …] for queries; documents are plain strings",
        "it shortens long texts by words, ragvec by tokens: vectors of texts over doc_max_length differ",
    ]
    if settings.truncate_dim is not None:
        notes.append(f"it knows no shorter vectors: keep the first {settings.truncate_dim} dimensions yourself")
    return notes


def _refuse(encoder: Encoder) -> None:
    settings, kind = encoder.settings, encoder.model.config.model_type
    if kind == "qwen2":
        raise RagvecError("the reference (llm2vec 0.2.3) leaves Qwen2 causal: export `to` sentence-transformers or hf")
    if kind not in _FAMILIES:
        raise RagvecError(
            f"the reference reads {', '.join(_FAMILIES)} alone, not {kind}: export `to` sentence-transformers or hf"
        )
    if settings.attention != "bidirectional":
        raise RagvecError(
            f"the reference makes every model bidirectional, this encoder's attention is {settings.attention}: "
            "export `to` sentence-transformers or hf"
        )
    told = {
        "places in an instruction": has_places(settings.query_instruction),
        "linear layers behind the pooling": len(encoder.projections),
        "a document instruction": settings.document_instruction,
    }
    if missing := next((what for what, has in told.items() if has), "" if settings.pooling in _POOLINGS else settings.pooling):
        raise RagvecError(f"the reference has nothing for {missing}: export `to` sentence-transformers")
    template = settings.template or Template()
    if (template.prefix or template.suffix) and not published_with(template):
        raise RagvecError(
            f"the reference knows the chat templates of some published models alone, and none is this encoder's "
            f"({template.prefix!r:.60} … {template.suffix!r:.60}): export `to` sentence-transformers or hf"
        )


def _older_config(config: dict[str, Any]) -> dict[str, Any]:
    """transformers 5 has renamed what its fourth version asks for."""
    config = dict(config)
    config["torch_dtype"] = config.pop("dtype", "float32")
    rope = config.pop("rope_parameters", None) or {}
    if "rope_theta" in rope:
        config["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    config.pop("transformers_version", None)
    return config


def _use_older_merges(path: Path) -> None:
    """Merges as "a b" strings: tokenizers before 0.20 do not read pairs."""
    tokenizer = read_json(path)
    merges = tokenizer["model"].get("merges")
    if merges and not isinstance(merges[0], str):
        if any(" " in piece for pair in merges for piece in pair):
            raise RagvecError("the tokenizer's pieces hold spaces, which the reference's tokenizers can't read: export `to` hf")
        tokenizer["model"]["merges"] = [" ".join(pair) for pair in merges]
        write_json(path, tokenizer)
