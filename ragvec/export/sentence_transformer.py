"""A sentence-transformers folder that makes the same vectors with that library's own modules, without remote code.

Its prompts stand before a text as instruction and template do here. What its modules have no setting for is put where it has
the same effect: the template's end into the tokenizer, and the tokens that the tokenizer adds in front out of the mean by a
WordWeights of 0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ragvec.encoder import Encoder
from ragvec.encoder.instruction import parse
from ragvec.encoder.projection import save_projections
from ragvec.encoder.prompt import special_ids
from ragvec.encoder.templates import Template
from ragvec.errors import RagvecError
from ragvec.export.plain import read_json, set_tokenizer_options
from ragvec.files import write_json

_MODULES = "sentence_transformers.models."  # the names that every version reads
_POOLING = {
    "mean": "mean_tokens",
    "mean_sqrt_len": "mean_sqrt_len_tokens",
    "max": "max_tokens",
    "weighted_mean": "weightedmean_tokens",
    "position_mean": "weightedmean_tokens",
    "eos_token": "lasttoken",
    "last_token": "lasttoken",
    "bos_token": "cls_token",
    "first_token": "cls_token",
}
_AT_ONE_POSITION = ("eos_token", "last_token", "bos_token")


def write_sentence_transformer(encoder: Encoder, folder: Path) -> list[str]:
    """Add the library's files to a folder with weights and tokenizer.

    Raises RagvecError for what its modules can't do.
    """
    settings, pooling = encoder.settings, encoder.settings.pooling
    if pooling not in _POOLING:
        raise RagvecError(f"several poolings ({pooling}) can't be exported there: export `to` hf")
    template = settings.template or Template()
    suffix = template.suffix + (template.eos if pooling == "eos_token" else "")
    suffix_ids = _ids_after_text(encoder.tokenizer.backend_tokenizer, suffix) if suffix else []
    prompts = {
        "query": _prompt(encoder, settings.query_instruction),
        "document": _prompt(encoder, settings.document_instruction),
    }
    front, back = special_ids(encoder.tokenizer.backend_tokenizer)
    skips = _skips(encoder)
    if skips:
        _refuse(encoder, prompts, front, suffix_ids)
    set_tokenizer_options(folder, encoder, model_max_length=settings.max_length, padding_side="right", truncation_side="right")
    if suffix_ids:
        _add_end(folder / "tokenizer.json", front, [*suffix_ids, *back])
    if suffix_ids or any(prompt.endswith(" ") for prompt in prompts.values()):
        _strip_spaces(folder / "tokenizer.json")
    modules = ["Transformer"]
    if skips and front:
        modules.append("WordWeights")
        _write_weights(folder / _place(modules), encoder, front)
    modules.append("Pooling")
    width = encoder.model.config.get_text_config().hidden_size
    _write(folder / _place(modules), {
        "word_embedding_dimension": width,
        **{f"pooling_mode_{mode}": mode == _POOLING[pooling] for mode in sorted(set(_POOLING.values()))},
        "include_prompt": not (skips or _skips_as_there(encoder)),
    })  # fmt: skip
    places = []
    for _ in encoder.projections:
        modules.append("Dense")
        places.append(_place(modules))
    save_projections(encoder.projections, folder, places)
    modules.append("Normalize")
    (folder / _place(modules)).mkdir()
    write_json(folder / "modules.json", _list(modules))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": settings.max_length, "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {
        "prompts": prompts,
        "default_prompt_name": "document" if prompts["document"] else None,
        "similarity_fn_name": "cosine",
    })  # fmt: skip
    return _notes(encoder, splits=skips and prompts["query"].endswith(" "))


def _prompt(encoder: Encoder, instruction: str) -> str:
    """What the library reads before a text. Raises RagvecError for an instruction that goes on after the text."""
    frame = encoder.prompts.frame(instruction)
    if frame.after:
        raise RagvecError(
            f"sentence-transformers has no place for what the instruction has after the text ({frame.after!r:.60}): "
            "export `to` ragvec or hf"
        )
    return frame.before


def same_border(encoder: Encoder, texts: Sequence[str], instruction: str) -> list[str]:
    """The texts of which the library pools the same tokens after an instruction as ragvec.

    It takes a prompt's own tokens off; ragvec, as the reference, counts the text's own from the end. Where a word has more or
    fewer tokens after a space than at the beginning, that is not the same.
    """
    if not _skips(encoder):
        return list(texts)
    backend = encoder.tokenizer.backend_tokenizer
    alone = backend.encode(encoder.prompts.frame(instruction).before.rstrip(" "), add_special_tokens=False).ids
    border = len(special_ids(backend)[0]) + len(alone)
    starts = encoder.prompts.build(texts, instruction).pool_starts
    return [text for text, start in zip(texts, starts, strict=True) if start == border]


def _skips(encoder: Encoder) -> bool:
    """Whether the instruction is left out of what is pooled, as ragvec does it; the other poolings look at one position."""
    settings = encoder.settings
    return settings.skip_instruction and settings.border == "text" and settings.pooling not in _AT_ONE_POSITION


def _skips_as_there(encoder: Encoder) -> bool:
    """Whether it is left out as that library does it."""
    return encoder.settings.skip_instruction and encoder.settings.border == "prompt"


def _refuse(encoder: Encoder, prompts: dict[str, str], front: list[int], suffix_ids: list[int]) -> None:
    """Raise RagvecError where pooling the text alone can't be had from the library's Pooling."""
    if encoder.settings.pooling in ("weighted_mean", "position_mean", "first_token") and (front or any(prompts.values())):
        raise RagvecError(
            "sentence-transformers counts the weights of a weighted mean from the prompt's beginning, ragvec from the text's: "
            "export `to` hf, or train with another pooling"
        )
    special = set(encoder.tokenizer.all_special_ids)
    if any(prompts.values()) and suffix_ids and (len(suffix_ids) > 1 or suffix_ids[0] not in special):
        raise RagvecError(
            f"the template ends in {len(suffix_ids)} tokens, which sentence-transformers would count as part of the prompt "
            "that is not pooled: export `to` hf or llm2vec"
        )


def _notes(encoder: Encoder, *, splits: bool) -> list[str]:
    settings = encoder.settings
    notes = ["attention in both directions needs transformers 5.2 or newer"] if settings.attention == "bidirectional" else []
    if parse(settings.document_instruction, settings.separator).titled:
        notes.append("its document prompt is that of a document without a title: pass a title in a prompt of its own there")
    if splits:
        notes.append("where a query's first word has other tokens after a space than alone, one more or less is pooled there")
    if settings.doc_max_length < settings.max_length:
        limits = f"{settings.doc_max_length} tokens (doc_max_length) are cut at {settings.max_length}"
        notes.append(f"texts over {limits} there, prompt included")
    if settings.truncate_dim is not None:
        notes.append(f"vectors are whole there: pass truncate_dim={settings.truncate_dim} to SentenceTransformer")
    return notes


def _ids_after_text(backend: Any, suffix: str) -> list[int]:
    """The tokens of a suffix where it stands, at the end of a text; alone it may begin otherwise."""
    texts = ("a", "fox.", "1")
    alone = [backend.encode(text, add_special_tokens=False).ids for text in texts]
    ended = [backend.encode(text + suffix, add_special_tokens=False).ids for text in texts]
    endings = [ids[len(text) :] for ids, text in zip(ended, alone, strict=True)]
    if any(ids[: len(text)] != text for ids, text in zip(ended, alone, strict=True)) or endings[1:] != endings[:-1]:
        raise RagvecError(f"the template's end {suffix!r} becomes other tokens after one text than another: export `to` hf")
    first: list[int] = endings[0]
    return first


def _strip_spaces(path: Path) -> None:
    """Have the tokenizer take spaces from a text's end.

    The library measures a prompt by tokenizing it alone, where its last space would be a token of its own.
    """
    tokenizer = read_json(path)
    ours: dict[str, Any] = {"type": "Replace", "pattern": {"Regex": " +\\z"}, "content": ""}
    theirs = tokenizer["normalizer"]
    if theirs is not None:
        ours = {"type": "Sequence", "normalizers": [ours, *(theirs.get("normalizers") or [theirs])]}
    write_json(path, tokenizer | {"normalizer": ours})


def _add_end(path: Path, front: list[int], end: list[int]) -> None:
    """Have the tokenizer put these tokens before and after every text, truncated or not."""
    text = {"Sequence": {"id": "A", "type_id": 0}}
    around = {name: ids for name, ids in (("front", front), ("end", end)) if ids}
    places = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in around}
    single = [places["front"], text] if front else [text]
    write_json(path, read_json(path) | {"post_processor": {
        "type": "TemplateProcessing",
        "single": [*single, places["end"]],
        "pair": [text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            name: {"id": name, "ids": ids, "tokens": [f"{name} {number}" for number in range(len(ids))]}
            for name, ids in around.items()
        },
    }})  # fmt: skip


def _place(modules: list[str]) -> str:
    return f"{len(modules) - 1}_{modules[-1]}"


def _list(modules: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "idx": number,
            "name": str(number),
            "path": "" if number == 0 else _place(modules[: number + 1]),
            "type": _MODULES + name,
        }
        for number, name in enumerate(modules)
    ]


def _write(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config)


def _write_weights(folder: Path, encoder: Encoder, front: list[int]) -> None:
    """A WordWeights that leaves the tokens which the tokenizer adds in front of a text out of the mean."""
    count = max(len(encoder.tokenizer), encoder.model.get_input_embeddings().num_embeddings)
    names = [f"token {number}" for number in range(count)]  # looked up by number; no text's token bears such a name
    _write(folder, {"vocab": names, "word_weights": {names[token]: 0.0 for token in front}, "unknown_word_weight": 1.0})
    weights = torch.ones(count, 1)
    weights[front] = 0.0
    save_file({"emb_layer.weight": weights}, folder / "model.safetensors", metadata={"format": "pt"})
