"""What ragvec writes, told apart by the names of files: an encoder, shards or an index."""

import os
from pathlib import Path
from typing import Literal

from ragvec.objects import Bucket, as_path, is_url

DATABASE_NAME = "index.sqlite"  # of an index
SERVER_LOCK_NAME = "server.lock"  # beside it, while it is served
MAP_NAME = "map.safetensors"  # beside it, where a map was made
MANIFEST_NAME = "manifest.json"  # of shards
STORED_FOLDERS = ("manifests", "records")  # of shards in object storage
ENCODER_NAMES = ("ragvec.json", "modules.json", "adapter_config.json", "llm2vec_config.json", "config.json")

GGUF_MAGIC = b"GGUF"  # an encoder in one file

Kind = Literal["encoder", "shards", "index"]
HOLDS_NONE = f"holds no encoder (config.json), shards ({MANIFEST_NAME}) or index ({DATABASE_NAME})"


def kind_of(path: str | Path) -> Kind | None:
    """What lies in a folder; None for anything else, a path that can't be or isn't there included.

    Of a GGUF file the first bytes are read, else nothing is opened; of a URL the store is asked, which may raise RagvecError.

    A name is a promise only: other programs write a manifest.json or a config.json too, and whoever opens it will see.
    """
    if is_url(path):
        return "shards" if any(name in STORED_FOLDERS for name in Bucket(as_path(path)).folders()) else None
    if _has(path, DATABASE_NAME):
        return "index"
    if _has(path, MANIFEST_NAME):
        return "shards"
    return "encoder" if is_gguf(path) or any(_has(path, name) for name in ENCODER_NAMES) else None


def is_shards(source: str | Path) -> bool:
    """Whether this is a folder of encoded shards rather than a corpus."""
    return kind_of(source) == "shards"


def is_gguf(path: str | Path) -> bool:
    """Whether this is a file that begins as a GGUF file does, whatever its name: Ollama's have none that says so."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except (OSError, ValueError):
        return False


def _has(path: str | Path, name: str) -> bool:
    return os.path.isfile(os.path.join(path, name))  # false for a name too long, too
