"""One encoder written for another library: weights merged, the layout's own files, then read back and compared."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ragvec.encoder import Encoder
from ragvec.encoder.checkpoint import save_weights
from ragvec.errors import RagvecError, WrongUsage
from ragvec.export.check import Agreement, check
from ragvec.export.llm2vec import write_llm2vec
from ragvec.export.plain import write_own, write_plain
from ragvec.export.sentence_transformer import write_sentence_transformer
from ragvec.files import replacing_folder

# What writes each layout's own files into a folder that holds the weights and the tokenizer; returns what differs there.
FORMATS: dict[str, Callable[[Encoder, Path], list[str]]] = {
    "sentence-transformers": write_sentence_transformer,
    "llm2vec": write_llm2vec,
    "hf": write_plain,
    "ragvec": write_own,
}
TOLERANCE = 1e-4  # of a coordinate of a normalised vector, both libraries computing in float32


class Exported(NamedTuple):
    """What differs in the other library, and what reading the folder back there showed."""

    notes: list[str]
    check: Agreement


def export(
    source: str | Path | None, to: str, output: str | Path, *, python: str | None = None, offline: bool = False
) -> Exported:
    """Write an encoder in another library's layout, whole weights with every adapter merged, and check it there.

    source   what `Encoder.load` takes; to: sentence-transformers, llm2vec, hf (transformers) or ragvec
    output   the folder, new or empty; it appears only when it is complete and the check has not failed
    python   an interpreter with that library, for the check; None = this one
    offline  never ask the network for the encoder, the hub's cache alone
    Raises RagvecError for an encoder that the layout can't express, or whose vectors are others there.
    """
    if to not in FORMATS:
        raise WrongUsage(f"unknown format {to!r}: choose one of {', '.join(FORMATS)}")
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RagvecError(f"{folder} is {'not empty' if folder.is_dir() else 'a file'}: choose another folder")
    encoder = Encoder.load(source, device="cpu", dtype="auto", offline=offline)
    with replacing_folder(folder) as temporary:
        notes = write(encoder, to, temporary)
        parity = check(encoder, to, temporary, python)
        if parity.deviation is not None and not parity.deviation <= TOLERANCE:
            raise RagvecError(
                f"{to} makes other vectors of this encoder (they differ by up to {parity.deviation:.1e}, {parity.where}): "
                "nothing is written"
            )
        if folder.exists():
            folder.rmdir()  # empty before the check; what came since is not removed
    return Exported(notes, parity)


def write(encoder: Encoder, to: str, folder: Path) -> list[str]:
    """Write weights, tokenizer and the layout's own files into a new folder; returns what differs in that library."""
    save_weights(encoder.model, encoder.tokenizer, folder)
    return FORMATS[to](encoder, folder)
