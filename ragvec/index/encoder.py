"""The encoder that an index belongs to: recorded when it is made, loaded again, checked before every use."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragvec.arguments import whole, wrong_type
from ragvec.errors import WrongInput, WrongUsage
from ragvec.index.store import IndexSettings
from ragvec.index.validity import MOST_DIMENSIONS

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.encoder.protocol import TextEncoder

BUNDLED = "bundled"
NO_ENCODER = "none"  # the source of vectors that were brought along, and their fingerprint where nobody told it


def settings_of(
    encoder: "TextEncoder", *, options: dict[str, Any] | None = None, document_instruction: str | None = None, **others: Any
) -> IndexSettings:
    """The settings of a new index for this encoder.

    document_instruction  before every document that is added; None = the encoder's own
    options  what else `Encoder.load` was given besides the source
    others   what else an index is made with: faiss_key, recall_target, max_memory, passage_tokens, overlap
    """
    _check_loaded(encoder)
    return IndexSettings(
        encoder_source=lasting_source(encoder.source),
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        encoder_options=options or {},
        query_instruction=encoder.settings.query_instruction,
        document_instruction=own_if_none(encoder, document_instruction),
        **others,
    )


def settings_without_encoder(
    dimension: int | None, fingerprint: str | None = None, *, document_instruction: str | None = None, **others: Any
) -> IndexSettings:
    """The settings of a new index for vectors that are brought along.

    fingerprint  of the encoder that made them, which may then search; None = not known
    Raises RagvecError without a dimension, and for passages to be cut, since nothing counts their tokens.
    """
    if dimension is None:
        raise WrongUsage("a new index needs an `encoder`, or the `dimension` of vectors that are brought along")
    if others.get("passage_tokens") is not None:
        raise WrongUsage("documents that bring their vectors are not cut: leave `passage_tokens` out, or give an `encoder`")
    if not 1 <= whole("dimension", dimension) <= MOST_DIMENSIONS:
        raise WrongUsage(f"`dimension` is {dimension}: give 1 … {MOST_DIMENSIONS:,}")
    told = fingerprint or NO_ENCODER
    return IndexSettings(NO_ENCODER, told, dimension, document_instruction=document_instruction or "", **others)


def own_if_none(encoder: "TextEncoder", document_instruction: str | None) -> str:
    """What is put before documents: what is asked for, or the encoder's own."""
    return encoder.settings.document_instruction if document_instruction is None else document_instruction


def lasting_source(source: str) -> str:
    """An encoder's source as another process, started elsewhere, will find it."""
    from ragvec.data import data_path

    folder = Path(source).expanduser()
    if not folder.exists():
        return source  # a hub id
    return BUNDLED if folder.resolve() == data_path("encoder").resolve() else str(folder.resolve())


def load_encoder(settings: IndexSettings, source: str | None = None, **overrides: Any) -> "Encoder":
    """The encoder an index was built with, from where it was then or from another source.

    overrides  arguments of `Encoder.load` such as the device, or offline: an index may name a model on the hub, which is then
               asked for it, with a line that says so, unless it is in the cache

    Raises RagvecError if it is no longer there, or no longer the same.
    """
    from ragvec.encoder import Encoder

    if settings.encoder_source == NO_ENCODER and not source:
        raise WrongInput(
            "the index holds vectors that were brought along and names no encoder: bring vectors, search by words "
            "(`mode` lexical), or name the `encoder` that made them"
        )
    recorded = None if settings.encoder_source == BUNDLED else settings.encoder_source
    named_by = "" if source else "the index"
    encoder = Encoder.load(source or recorded, named_by=named_by, **{**settings.encoder_options, **overrides})
    check_encoder(settings, encoder)
    return encoder


def check_encoder(settings: IndexSettings, encoder: "TextEncoder") -> None:
    """Raises RagvecError if this is not the encoder that the index was built with."""
    _check_loaded(encoder)
    check_fingerprint(settings, encoder.fingerprint, dimension=encoder.dimension, source=encoder.source)


def _check_loaded(encoder: "TextEncoder") -> None:
    if not hasattr(encoder, "fingerprint"):
        raise wrong_type("encoder", encoder, "load it, Encoder.load(path_or_id)")


def check_fingerprint(settings: IndexSettings, fingerprint: str, *, dimension: int, source: str) -> None:
    """Raises RagvecError if what carries an encoder's fingerprint, such as shards, is not of the index's encoder."""
    if fingerprint == settings.fingerprint:
        return
    if settings.fingerprint == NO_ENCODER:
        raise WrongInput(
            "nothing says which encoder made the vectors of this index, so none may search it: search by a vector or by words, "
            "or make the index anew with the `encoder` that made them"
        )
    raise WrongInput(
        f"the index was built with encoder {settings.encoder_source} ({settings.dimension}-d, {settings.fingerprint[:12]}), "
        f"this is {source} ({dimension}-d, {fingerprint[:12]}): use the index's encoder, "
        f"or build a new index with `ragvec index … -o NEW_INDEX --encoder {source}`"
    )


def check_instruction(settings: IndexSettings, instruction: str | None) -> None:
    """Raises RagvecError if documents would be read after another instruction than the index's; None = its own."""
    own = settings.document_instruction
    if instruction is not None and instruction != own:
        raise WrongInput(
            f"the index holds documents read after {own!r}, these are read after {instruction!r}: leave "
            "`document_instruction` out, or build a new index"
        )
