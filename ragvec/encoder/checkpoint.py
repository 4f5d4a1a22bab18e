"""An encoder's folder, written whole or not at all: weights, tokenizer and ragvec.json."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.encoder.projection import Projections, save_projections
from ragvec.encoder.settings import SETTINGS_FILE, EncoderSettings, write_settings
from ragvec.encoder.weights import quiet
from ragvec.errors import WrongInput
from ragvec.files import replacing_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What is written into an encoder's folder, by ragvec or by transformers; a folder that is replaced may hold nothing else.
_WRITTEN = re.compile(
    r"ragvec\.json|README\.md|(generation_)?config\.json|model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"
    r"|tokenizer.*\.(json|model)|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt"
    r"|projection-\d+|chat_template\.jinja|additional_chat_templates"
)


def save_checkpoint(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: EncoderSettings,
    folder: Path,
    *,
    projections: Projections | None = None,
    overwrite: bool = False,
) -> None:
    """Write weights (safetensors), tokenizer and ragvec.json as one folder that appears only when complete.

    A model with an unmerged adapter is refused: save the adapter, or load with merge=True.
    """
    if hasattr(model, "get_base_model"):
        raise WrongInput("the model carries an unmerged adapter: load it with merge=True to save a whole encoder")
    check_free(folder, overwrite=overwrite)
    with replacing_folder(folder) as temporary:
        save_weights(model, tokenizer, temporary)
        write_projected_settings(temporary, settings, projections or Projections())


def write_projected_settings(folder: Path, settings: EncoderSettings, projections: Projections) -> None:
    """Write ragvec.json, and the linear layers that it names beside it."""
    names = tuple(f"projection-{number}" for number in range(len(projections)))
    save_projections(projections, folder, names)
    write_settings(folder, replace(settings, projections=names))


def save_weights(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write weights and tokenizer as transformers does, without its bars and remarks."""
    with quiet(show_progress=False):
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise RagvecError unless a folder may be written: new, empty, or an encoder that is to be replaced."""
    if folder.exists() and not folder.is_dir():
        raise WrongInput(f"{folder} is a file: choose a folder for the encoder")
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if held and SETTINGS_FILE not in held:
        raise WrongInput(f"{folder} holds {held[0]!r} and no encoder of ragvec's: choose another folder")
    if strange := [name for name in held if not _WRITTEN.fullmatch(name)]:
        raise WrongInput(
            f"{folder} holds {strange[0]!r}, which is no part of an encoder and would be lost: choose another folder"
        )
    if held and not overwrite:
        raise WrongInput(f"{folder} is not empty: choose another folder, or pass `overwrite` to replace it")
