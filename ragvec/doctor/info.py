"""What a path holds: an encoder, shards or an index, described without loading a model."""

import math
import re
from pathlib import Path
from typing import Any

from ragvec.arguments import address_of
from ragvec.artefacts import HOLDS_NONE, kind_of
from ragvec.errors import NotFound, RagvecError, WrongUsage
from ragvec.objects import ObjectPath, as_path

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # organisation/name, and no path that is there


def describe(path: str | Path) -> dict[str, Any]:
    """An encoder's, shards' or an index's description as JSON values; `kind` says which it is.

    path    a folder, a GGUF file, or the hub id of an encoder that is in the hub's cache: nothing is fetched
    Raises RagvecError for a path that is none of them, or damaged.
    """
    named, path = str(path), as_path(path)
    if not isinstance(path, ObjectPath) and not path.exists():
        if _HUB_ID.fullmatch(named) is None:
            if address := address_of(named):
                raise WrongUsage(f"`path` is {address}, an address: name an encoder, shards or an index of this machine")
            raise NotFound(f"{path} does not exist: name an encoder, shards or an index")
        return {"kind": "encoder", **_encoder(named)}
    kind = kind_of(path)
    if kind is None:
        raise RagvecError(f"{path} {HOLDS_NONE}: name the folder that one of them lies in")
    described = {"index": _index, "shards": _shards}[kind](path) if kind != "encoder" else _encoder(named)
    return {"kind": kind, **described}


def _index(path: Path) -> dict[str, Any]:
    from ragvec.index import Index

    with Index.open(path) as index:
        return {**index.describe(), "sources": index.sources()}


def _shards(path: Path) -> dict[str, Any]:
    from ragvec.shards import Shards

    manifest = Shards.open(path, allow_incomplete=True).manifest
    return {"path": str(path), **manifest.describe(), "bytes": sum(part.bytes for part in manifest.parts)}


def _encoder(named: str) -> dict[str, Any]:
    from ragvec.encoder.fingerprint import fingerprint
    from ragvec.encoder.sources import locate
    from ragvec.encoder.weights import refusal

    source = locate(named, offline=True)
    described = _gguf(source.base) if source.base.is_file() else _model(source.base)
    settings = source.settings
    folders = (source.base, *source.adapters, *source.projections)
    folder = Path(named) if Path(named).exists() else source.base
    own = (folder / "ragvec.json").is_file()
    why_not = refusal(source.base, source.adapters, source.tokenizer)
    return {
        "path": named,
        "loads": not why_not,
        **({"refusal": why_not} if why_not else {}),
        **described,
        "attention": settings.attention,
        "pooling": settings.pooling,
        "max_length": settings.max_length,
        "doc_max_length": settings.doc_max_length,
        "query_instruction": settings.query_instruction,
        "document_instruction": settings.document_instruction,
        "base_model": settings.base_model,
        "adapters": [str(adapter) for adapter in source.adapters] or list(settings.adapters),
        # other layouts complete their settings from the model, and so their fingerprint, on loading
        **({"fingerprint": fingerprint(folders, source.tokenizer, settings)} if own else {}),
    }


def _model(folder: Path) -> dict[str, Any]:
    from ragvec.encoder.door import field, read_object

    path = folder / "config.json"
    config = read_object(path)
    config = {**config, **(field(path, config, "text_config", dict) or {})}
    return {
        "architecture": config.get("model_type"),
        "dimension": config.get("word_embed_proj_dim") or config.get("hidden_size") or config.get("n_embd"),
        "layers": config.get("num_hidden_layers") or config.get("n_layer"),
        **_weights(folder),
    }


def _gguf(path: Path) -> dict[str, Any]:
    from gguf import GGMLQuantizationType

    from ragvec.encoder.gguf import open_gguf

    head = open_gguf(path)
    return {
        "architecture": head.architecture,
        "dimension": head.told("embedding_length"),
        "layers": head.told("block_count"),
        "parameters": sum(math.prod(tensor.shape) for tensor in head.tensors.values()),
        "weights_dtype": ", ".join(sorted({GGMLQuantizationType(tensor.kind).name for tensor in head.tensors.values()})),
        "bytes": path.stat().st_size,
    }


def _weights(folder: Path) -> dict[str, Any]:
    """Parameters, stored dtypes and bytes, from the headers of the safetensors files."""
    from ragvec.encoder.door import header

    parameters, dtypes, size = 0, set(), 0
    for path in sorted(folder.glob("*.safetensors")):
        size += path.stat().st_size
        for shape, dtype in header(path).values():
            parameters += math.prod(shape)
            dtypes.add(dtype)
    return {"parameters": parameters, "weights_dtype": ", ".join(sorted(dtypes)), "bytes": size}
