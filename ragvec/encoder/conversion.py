"""Making an encoder checkpoint out of a decoder, and writing it whole or not at all."""

from dataclasses import replace
from pathlib import Path

from ragvec.encoder.probe import Probe
from ragvec.encoder.settings import SETTINGS_FILE, EncoderSettings, write_settings
from ragvec.encoder.weights import quiet
from ragvec.errors import RagvecError
from ragvec.files import replacing_folder


def convert(
    base: str,
    output: str | Path,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    query_instruction: str | None = None,
    template_of: str | None = None,
    overwrite: bool = False,
) -> Probe:
    """Turn a decoder-only model into a bidirectional encoder checkpoint, verified.

    base         folder or hub id of a decoder, or of the reference's adapters, which are merged
    output       the checkpoint's folder, new or empty; template_of: use the chat template of this published model
    returns      what the probe saw: attention in both directions, padding and packing errors
    Raises RagvecError if the model can't be converted or doesn't pass the probe; then nothing is written.
    """
    from ragvec.encoder.encoder import Encoder
    from ragvec.encoder.ready import probe_model

    folder = Path(output)
    check_free(folder, overwrite=overwrite)
    encoder = Encoder.load(
        base, revision=revision, device="cpu", dtype="auto", attention="bidirectional", pooling=pooling, max_length=max_length
    )
    result = probe_model(encoder.model)
    if not result.bidirectional:
        kind = encoder.model.config.model_type
        raise RagvecError(
            f"{kind} stays causal: changing the last token moved the first state by {result.moved:.1e}; "
            "its attention can't be switched by transformers' is_causal flag, so it can't be converted"
        )
    settings = replace(encoder.settings, packed=result.packs)
    if query_instruction is not None:
        settings = replace(settings, query_instruction=query_instruction)
    if template_of is not None:
        from ragvec.templates import find_template

        settings = replace(settings, template=find_template(template_of, encoder.model.config.model_type, encoder.tokenizer))
    save_checkpoint(encoder.model, encoder.tokenizer, settings, folder, overwrite=overwrite)
    return result


def save_checkpoint(model, tokenizer, settings: EncoderSettings, folder: Path, *, overwrite: bool = False) -> None:
    """Write weights (safetensors), tokenizer and ragvec.json as one folder that appears only when complete.

    A model with an unmerged adapter is refused: save the adapter, or load with merge=True.
    """
    if hasattr(model, "get_base_model"):
        raise RagvecError("the model carries an unmerged adapter: load it with merge=True to save a whole encoder")
    check_free(folder, overwrite=overwrite)
    with replacing_folder(folder) as temporary:
        save_weights(model, tokenizer, temporary)
        write_settings(temporary, settings)


def save_weights(model, tokenizer, folder: Path) -> None:
    """Write weights and tokenizer as transformers does, without its bars and remarks."""
    with quiet(show_progress=False):
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise RagvecError unless a folder may be written: new, empty, or an encoder that is to be replaced."""
    if folder.exists() and not folder.is_dir():
        raise RagvecError(f"{folder} is a file: choose a folder for the encoder")
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if held and SETTINGS_FILE not in held:
        raise RagvecError(f"{folder} holds {held[0]!r} and no encoder of ragvec's: choose another folder")
    if held and not overwrite:
        raise RagvecError(f"{folder} is not empty: choose another folder, or pass --overwrite to replace it")
