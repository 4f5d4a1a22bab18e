"""Where an encoder comes from: a folder or a hub id, in any of the layouts people have.

Layouts, in the order they are tried: ragvec (ragvec.json), sentence-transformers (modules.json), adapter (adapter_config.json,
as the reference publishes), merged reference (llm2vec_config.json), plain transformers checkpoint (config.json).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ragvec.encoder.settings import SETTINGS_FILE, EncoderSettings, read_settings
from ragvec.errors import Damaged, NotFound, WrongInput, first_line

ADAPTER_FILE = "adapter_config.json"
_FIRST_STAGE = "-mntp"
_SECOND_STAGES = ("-supervised", "-unsup-simcse")  # published as a second adapter upon …-mntp
_WANTED = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*/config.json"]


@dataclass(frozen=True, slots=True)
class Source:
    """What to load: base weights, adapters to stack on them in order, the tokenizer's folder, and the settings."""

    base: Path
    adapters: tuple[Path, ...]
    tokenizer: Path
    settings: EncoderSettings


def locate(source: str, *, revision: str | None = None, adapters: tuple[str, ...] = ()) -> Source:
    """Find everything an encoder is made of.

    source    a folder or hub id; adapters: further adapters to stack, folders or hub ids
    Raises RagvecError if nothing is found, naming what was tried.
    """
    found = _locate_folder(fetch(source, revision), source, revision)
    for adapter in adapters:
        folder = fetch(adapter, None)
        if not (folder / ADAPTER_FILE).is_file():
            raise NotFound(f"{adapter} holds no {ADAPTER_FILE}: pass an adapter's folder or hub id")
        found = _stack(found, folder, adapter)
    return found


def fetch(source: str, revision: str | None, near: Path | None = None) -> Path:
    """The local folder of a source: itself, one relative to `near`, or a snapshot of the hub's repository.

    Offline (HF_HUB_OFFLINE=1) the hub's cache alone is asked. Never fetches pickled weights.
    """
    for folder in (near / source if near else None, Path(source).expanduser()):
        if folder is not None and folder.is_dir():
            return folder.resolve()
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise NotFound(f"no model folder {source}, and it is no hub id (organisation/name): check the path")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_WANTED))
    except LocalEntryNotFoundError as error:
        raise NotFound(
            f"no folder {source}, and the hub's copy is neither in the local cache nor within reach: "
            "check the name, or download it where there is a network"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise NotFound(f"no folder {source}, and the hub refused it: {first_line(error)}") from error


def _locate_folder(folder: Path, name: str, revision: str | None) -> Source:
    if (folder / ADAPTER_FILE).is_file():
        return _locate_adapter(folder, name)
    if (folder / SETTINGS_FILE).is_file():
        return Source(folder, (), folder, read_settings(folder))
    if (folder / "modules.json").is_file():
        return _locate_sentence_transformer(folder, name)
    if (folder / "config.json").is_file():
        settings = EncoderSettings(base_model=name, base_revision=revision)
        return Source(folder, (), folder, _reference_settings(folder, settings))
    raise NotFound(f"{folder} is no model folder: it holds none of {SETTINGS_FILE}, modules.json, {ADAPTER_FILE}, config.json")


def _locate_adapter(folder: Path, name: str) -> Source:
    """Base, then the adapters this one was trained upon, then this one."""
    base_name = _read_json(folder / ADAPTER_FILE).get("base_model_name_or_path")
    if not base_name:
        raise WrongInput(f"{folder / ADAPTER_FILE} names no base_model_name_or_path: set it to the base model")
    settings = read_settings(folder) if (folder / SETTINGS_FILE).is_file() else None
    base_revision = settings.base_revision if settings else None
    found = _locate_folder(fetch(base_name, base_revision, near=folder), base_name, base_revision)
    earlier = settings.adapters if settings else _first_stage(name)
    for adapter in earlier:
        found = _stack(found, fetch(adapter, None, near=folder), adapter)
    found = _stack(found, folder, name)
    return replace(found, settings=replace(settings, adapters=found.settings.adapters)) if settings else found


def _first_stage(name: str) -> tuple[str, ...]:
    """The published adapter that comes before a published second-stage adapter, known by its name."""
    for ending in _SECOND_STAGES:
        if name.rstrip("/").endswith(_FIRST_STAGE + ending):
            return (name.rstrip("/").removesuffix(ending),)
    return ()


def _stack(found: Source, adapter: Path, name: str) -> Source:
    settings = replace(found.settings, adapters=(*found.settings.adapters, name))
    has_tokenizer = any((adapter / file).is_file() for file in ("tokenizer.json", "tokenizer.model"))
    return Source(
        found.base,
        (*found.adapters, adapter),
        adapter if has_tokenizer else found.tokenizer,
        _reference_settings(adapter, settings),
    )


def _reference_settings(folder: Path, settings: EncoderSettings) -> EncoderSettings:
    """Take over what the reference's llm2vec_config.json says, if there is one."""
    path = folder / "llm2vec_config.json"
    if not path.is_file():
        return settings
    record = _read_json(path)
    return settings.override(
        pooling=record.get("pooling_mode"),
        max_length=record.get("max_length"),
        doc_max_length=record.get("doc_max_length"),
        skip_instruction=record.get("skip_instruction"),
    )


def _locate_sentence_transformer(folder: Path, name: str) -> Source:
    """A sentence-transformers folder: its transformer, its pooling; the attention stays as it was trained."""
    weights, pooling = folder, "mean"
    limit, skip_instruction = None, False
    for module in _read_json(folder / "modules.json"):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Transformer":
            weights = folder / module["path"]
            limits = weights / "sentence_bert_config.json"
            limit = _read_json(limits).get("max_seq_length") if limits.is_file() else None
        elif kind == "Pooling":
            record = _read_json(folder / module["path"] / "config.json")
            pooling, skip_instruction = _sentence_transformer_pooling(record, folder), not record.get("include_prompt", True)
        elif kind != "Normalize":
            raise WrongInput(
                f"{folder} uses the sentence-transformers module {kind}: only Transformer, Pooling and Normalize load here"
            )
    settings = EncoderSettings(
        pooling=pooling,
        attention="unchanged",
        skip_instruction=skip_instruction,
        query_instruction=_sentence_transformer_prompt(folder),
        separator="",
        base_model=name,
    ).override(max_length=limit)
    return Source(weights, (), weights, settings)


def _sentence_transformer_pooling(record: dict, folder: Path) -> str:
    ours = {"mean": "mean", "cls": "bos_token", "lasttoken": "last_token", "weightedmean": "weighted_mean"}
    modes = {name for name in ours if record.get("pooling_mode") == name}
    flags = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken", "weightedmean_tokens": "weightedmean"}
    modes |= {name for flag, name in flags.items() if record.get(f"pooling_mode_{flag}")}
    if len(modes) != 1:
        raise WrongInput(f"{folder} pools by {sorted(modes) or 'an unknown mode'}: exactly one of {', '.join(ours)} loads here")
    return ours[modes.pop()]


def _sentence_transformer_prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    return (_read_json(path).get("prompts") or {}).get("query", "") if path.is_file() else ""


def _read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} is not readable JSON ({error}): restore it from where the model came from") from error
