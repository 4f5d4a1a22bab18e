"""Making an encoder out of a decoder: bidirectional attention, verified by a probe."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ragvec.encoder.checkpoint import check_free, save_checkpoint
from ragvec.encoder.encoder import Encoder
from ragvec.encoder.probe import Probe
from ragvec.encoder.ready import probe_model
from ragvec.encoder.templates import find_template
from ragvec.errors import RagvecError


def convert(
    base: str,
    output: str | Path,
    *,
    revision: str | None = None,
    adapters: Sequence[str | Path] = (),
    pooling: str | None = None,
    max_length: int | None = None,
    query_instruction: str | None = None,
    document_instruction: str | None = None,
    template_of: str | None = None,
    overwrite: bool = False,
    offline: bool = False,
) -> Probe:
    """Turn a decoder-only model into a bidirectional encoder checkpoint, verified.

    base         folder, GGUF file or hub id of a decoder, or of the reference's adapters, which are merged
    adapters     LoRA adapters to merge, in order: folders, hub ids or names that ship with ragvec
    output       the checkpoint's folder, new or empty; template_of: use the chat template of this published model
    offline      never ask the network, the hub's cache alone
    returns      what the probe saw: attention in both directions, padding and packing errors
    Raises RagvecError if the model can't be converted or doesn't pass the probe; then nothing is written.
    """
    folder = Path(output)
    check_free(folder, overwrite=overwrite)
    encoder = Encoder.load(
        base,
        revision=revision,
        adapters=adapters,
        device="cpu",
        dtype="auto",
        attention="bidirectional",
        pooling=pooling,
        max_length=max_length,
        query_instruction=query_instruction,
        document_instruction=document_instruction,
        offline=offline,
    )
    result = probe_model(encoder.model)
    if not result.bidirectional:
        kind = encoder.model.config.model_type
        raise RagvecError(
            f"{kind} stays causal: changing the last token moved no earlier state by more than {result.moved:.1e}; "
            "its attention can't be switched by transformers' is_causal flag, so it can't be converted"
        )
    settings = replace(encoder.settings, packed=result.packs)
    if template_of is not None:
        settings = replace(settings, template=find_template(template_of, encoder.model.config.model_type, encoder.tokenizer))
    save_checkpoint(
        encoder.model, encoder.tokenizer, settings, folder, projections=encoder.projections, overwrite=overwrite
    )  # fmt: skip
    return result
