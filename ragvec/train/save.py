"""Writing the result of a run: an adapter folder, a merged encoder or a plain decoder, loadable by name alone."""

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragvec.encoder.base_weights import weights_name
from ragvec.encoder.checkpoint import write_projected_settings
from ragvec.encoder.settings import SETTINGS_FILE, EncoderSettings
from ragvec.encoder.sources import ADAPTER_FILE, Source, is_of_hub, shipped
from ragvec.encoder.weights import DTYPES, quiet
from ragvec.files import fsync_folder, settle_file
from ragvec.train.model import Learner, embedding_of
from ragvec.train.objectives import objective_of
from ragvec.train.recipe import Recipe

# What makes a folder loadable is put in place last.
_LAST = ("config.json", ADAPTER_FILE, SETTINGS_FILE)


def save_result(learner: Learner, recipe: Recipe, folder: Path) -> None:
    """Write what was trained into a folder that `Encoder.load` (for clm: any transformers program) reads.

    With LoRA an adapter that names its base and the adapters before it; with full fine-tuning or save_merged whole weights.
    Files written by an earlier run are replaced, one by one, the ones that make the folder loadable last.
    """
    temporary = folder / f"result.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        makes_decoder = objective_of(recipe).makes_decoder
        if learner.adapter is not None and not (recipe.save_merged or makes_decoder):
            _write_adapter(learner, temporary, folder)
        else:
            _write_whole(learner, recipe, temporary, decoder=makes_decoder)
        learner.tokenizer.save_pretrained(temporary)
        _move_in(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_adapter(learner: Learner, target: Path, folder: Path) -> None:
    found = learner.found
    assert found is not None and learner.adapter is not None
    config = learner.adapter.peft_config["default"]
    config.base_model_name_or_path = _lasting(found.base_name, found.base, folder)
    settings = replace(_settings(learner, _earlier_adapters(found, folder)), base_weights=weights_name(found.base))
    if is_of_hub(found.base_name, found.base):  # else what the base says of where it comes from stays
        config.revision = found.base_revision
        settings = replace(settings, base_model=found.base_name, base_revision=found.base_revision)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not find a config file")  # peft asks the hub about the base
        learner.adapter.save_pretrained(target, save_embedding_layers=False)
    (target / "README.md").unlink(missing_ok=True)  # peft's empty model card
    write_projected_settings(target, settings, learner.projections)


def _write_whole(learner: Learner, recipe: Recipe, target: Path, *, decoder: bool) -> None:
    if learner.adapter is not None:
        learner.adapter.merge_and_unload()
    if embedding_of(learner.backbone).num_embeddings > learner.base_vocabulary:
        learner.language_model.resize_token_embeddings(learner.base_vocabulary)  # the new mask token has served its purpose
    model = learner.language_model if decoder else learner.backbone
    if recipe.save_dtype:
        model.to(DTYPES[recipe.save_dtype])
    model.config.dtype = next(model.parameters()).dtype
    with quiet(show_progress=False):
        model.save_pretrained(target)
    if not decoder:
        settings = replace(_settings(learner, ()), base_weights="", **_trained_from(learner.found))
        write_projected_settings(target, settings, learner.projections)


def _settings(learner: Learner, adapters: tuple[str, ...]) -> EncoderSettings:
    return replace(learner.settings, adapters=adapters)


def _trained_from(found: Source | None) -> dict[str, Any]:
    """What names the hub's model that a run started from; nothing where it lies here: what that says of its own base stays."""
    if found is None:
        return {}
    name, path, revision = found.base_name, found.base, found.base_revision
    if found.adapters:
        (name, _, told), path = found.settings.adapters[-1].partition("@"), found.adapters[-1]
        revision = told or None
    return {"base_model": name, "base_revision": revision} if is_of_hub(name, path) else {}


def _earlier_adapters(found: Source, folder: Path) -> tuple[str, ...]:
    names = found.settings.adapters[len(found.settings.adapters) - len(found.adapters) :]
    return tuple(_lasting(name, path, folder) for name, path in zip(names, found.adapters, strict=True))


def _lasting(name: str, path: Path, folder: Path) -> str:
    """How to name a model in a file: its hub id, a name that ships with ragvec, a relative path to a neighbour of the folder,
    else an absolute one."""
    if path == shipped(name):
        return name
    if is_of_hub(name, path):
        return name
    folder = folder.resolve()
    return os.path.relpath(path, folder) if path.is_relative_to(folder.parent) else str(path)


def _move_in(temporary: Path, folder: Path) -> None:
    for name in (*_LAST, "model.safetensors", "adapter_model.safetensors"):
        if not (temporary / name).exists():
            (folder / name).unlink(missing_ok=True)  # of a run of another kind
    for path in filter(Path.is_dir, temporary.iterdir()):  # the layers behind the pooling
        shutil.rmtree(folder / path.name, ignore_errors=True)
        os.replace(path, folder / path.name)
    for path in sorted(temporary.iterdir(), key=lambda path: _LAST.index(path.name) if path.name in _LAST else -1):
        settle_file(path)
        os.replace(path, folder / path.name)
    fsync_folder(folder)
