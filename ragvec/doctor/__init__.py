"""Is everything all right? Encoders, shards, indices and the machine, examined; each finding says what to do."""

from collections.abc import Iterator
from pathlib import Path

from ragvec.artefacts import HOLDS_NONE, kind_of
from ragvec.doctor.check import ADVICE, FAILED, OK, Check
from ragvec.objects import ObjectPath, as_path

__all__ = ["ADVICE", "FAILED", "OK", "Check", "examine"]


def examine(
    path: str | Path | None = None, *, device: str | None = None, dtype: str | None = None, offline: bool = False
) -> Iterator[Check]:
    """Examine the machine, and what a path holds: an encoder (folder or hub id), shards, or an index with its encoder.

    path           None = the bundled encoder
    device, dtype  what the encoder is examined on and in; None = the best here
    offline        never ask the hub for a model
    Yields each check as it is done; what can't be opened is a failed check, not an exception.
    """
    from ragvec.doctor.machine import examine_machine

    yield from examine_machine()
    folder = None if path is None else as_path(path)
    kind = None if folder is None else kind_of(folder)
    if folder is not None and kind == "index":
        from ragvec.doctor.index import examine_index

        yield from examine_index(folder, device=device, dtype=dtype, offline=offline)
    elif folder is not None and kind == "shards":
        from ragvec.doctor.shards import examine_shards

        yield from examine_shards(folder)
    elif folder is not None and kind is None and (isinstance(folder, ObjectPath) or folder.exists()):
        holds = HOLDS_NONE if folder.is_dir() or isinstance(folder, ObjectPath) else "is a file"
        yield Check(
            "path", "opens", FAILED, f"{folder} {holds}", remedy="name the folder of an encoder, of shards or of an index"
        )
    else:
        from ragvec.doctor.encoder import examine_encoder

        yield from examine_encoder(None if path is None else str(path), device=device, dtype=dtype, offline=offline)
