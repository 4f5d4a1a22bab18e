"""Where an encoder comes from: a folder or a hub id, in any of the layouts people have.

Layouts, in the order they are tried: ragvec (ragvec.json), sentence-transformers (modules.json), adapter (adapter_config.json,
as the reference publishes), merged reference (llm2vec_config.json), plain transformers checkpoint (config.json).
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ragvec.encoder.door import check_adapter, check_files, check_model, field, inside, read_list, read_object
from ragvec.encoder.settings import SETTINGS_FILE, EncoderSettings, read_settings
from ragvec.errors import Damaged, NotFound, WrongInput, first_line

ADAPTER_FILE = "adapter_config.json"
_FIRST_STAGE = "-mntp"
_SECOND_STAGES = ("-supervised", "-unsup-simcse")  # published as a second adapter upon …-mntp
_MOST_BASES = 8  # of adapters upon each other's folders, before it is taken for a circle
_WANTED = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*/config.json"]


@dataclass(frozen=True, slots=True)
class Source:
    """What to load: base weights, adapters to stack on them in order, the tokenizer's folder, and the settings."""

    base: Path
    adapters: tuple[Path, ...]
    tokenizer: Path
    settings: EncoderSettings


@dataclass(frozen=True, slots=True)
class _Search:
    """How models are looked for.

    offline   ask the hub's cache alone
    named_by  the file or index that names the source, where the user did not
    depth     how many folders have named each other
    """

    offline: bool = False
    named_by: str = ""
    depth: int = 0

    def below(self, path: Path) -> "_Search":
        """How to look for the source that this file names. Raises Damaged if too many have named each other."""
        if self.depth == _MOST_BASES:
            raise Damaged(f"{path} names a base that names a base …, {_MOST_BASES} times: does it name itself?")
        return _Search(self.offline, str(path), self.depth + 1)


def locate(
    source: str, *, revision: str | None = None, adapters: tuple[str, ...] = (), offline: bool = False, named_by: str = ""
) -> Source:
    """Find everything an encoder is made of.

    source    a folder or hub id; adapters: further adapters to stack, folders or hub ids
    offline   never ask the network; named_by: the file or index that names the source, where the user did not
    Raises RagvecError if nothing is found, naming what was tried, and for files that are not what they must be.
    """
    search = _Search(offline, named_by)
    found = _locate_folder(fetch(source, revision, search), source, revision, search)
    for adapter in adapters:
        folder = fetch(adapter, None, search)
        if not (folder / ADAPTER_FILE).is_file():
            raise NotFound(f"{adapter} holds no {ADAPTER_FILE}: pass an adapter's folder or hub id")
        found = _stack(found, folder, adapter)
    check_model(found.base)
    check_files(found.tokenizer)
    return found


def fetch(source: str, revision: str | None, search: _Search = _Search(), near: Path | None = None) -> Path:
    """The local folder of a source: itself, one relative to `near`, or a snapshot of the hub's repository.

    Offline (or with HF_HUB_OFFLINE=1) the hub's cache alone is asked. What a file or an index names is taken from the cache
    where it is there; fetching it is said in one line, for nobody asked for that. Never fetches pickled weights.
    """
    try:
        for folder in (near / source if near else None, Path(source).expanduser()):
            if folder is not None and folder.is_dir():
                return folder.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise WrongInput(f"{source[:200]!r} can't be a model folder ({error}): check the path") from error
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise NotFound(f"no model folder {source}, and it is no hub id (organisation/name): check the path")
    if search.named_by and not search.offline:
        try:
            return _snapshot(source, revision, offline=True)
        except NotFound:
            logging.getLogger("ragvec").warning(
                "%s names the model %s, which is not here: asking the hub for it (`offline` forbids that)",
                search.named_by,
                source,
            )
    return _snapshot(source, revision, offline=search.offline)


def _snapshot(source: str, revision: str | None, *, offline: bool) -> Path:
    """Raises NotFound if the hub's repository is neither in the cache nor, unless offline, within reach."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_WANTED, local_files_only=offline))
    except LocalEntryNotFoundError as error:
        raise NotFound(
            f"no folder {source}, and the hub's copy is neither in the local cache nor within reach: "
            "check the name, or download it where there is a network"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise NotFound(f"no folder {source}, and the hub refused it: {first_line(error)}") from error


def _locate_folder(folder: Path, name: str, revision: str | None, search: _Search) -> Source:
    if (folder / ADAPTER_FILE).is_file():
        return _locate_adapter(folder, name, search)
    if (folder / SETTINGS_FILE).is_file():
        return Source(folder, (), folder, read_settings(folder))
    if (folder / "modules.json").is_file():
        return _locate_sentence_transformer(folder, name)
    if (folder / "config.json").is_file():
        settings = EncoderSettings(base_model=name, base_revision=revision)
        return Source(folder, (), folder, _reference_settings(folder, settings))
    raise NotFound(f"{folder} is no model folder: it holds none of {SETTINGS_FILE}, modules.json, {ADAPTER_FILE}, config.json")


def _locate_adapter(folder: Path, name: str, search: _Search) -> Source:
    """Base, then the adapters this one was trained upon, then this one."""
    path = folder / ADAPTER_FILE
    search = search.below(path)
    base_name = field(path, read_object(path), "base_model_name_or_path", str)
    if not base_name:
        raise WrongInput(f"{folder / ADAPTER_FILE} names no base_model_name_or_path: set it to the base model")
    settings = read_settings(folder) if (folder / SETTINGS_FILE).is_file() else None
    base_revision = settings.base_revision if settings else None
    base = fetch(base_name, base_revision, search, near=folder)
    found = _locate_folder(base, base_name, base_revision, search)
    earlier = settings.adapters if settings else _first_stage(name)
    for adapter in earlier:
        found = _stack(found, fetch(adapter, None, search, near=folder), adapter)
    found = _stack(found, folder, name)
    return replace(found, settings=replace(settings, adapters=found.settings.adapters)) if settings else found


def _first_stage(name: str) -> tuple[str, ...]:
    """The published adapter that comes before a published second-stage adapter, known by its name."""
    for ending in _SECOND_STAGES:
        if name.rstrip("/").endswith(_FIRST_STAGE + ending):
            return (name.rstrip("/").removesuffix(ending),)
    return ()


def _stack(found: Source, adapter: Path, name: str) -> Source:
    check_adapter(adapter)
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
    record = read_object(path)
    return settings.override(
        pooling=field(path, record, "pooling_mode", str),
        max_length=field(path, record, "max_length", int),
        doc_max_length=field(path, record, "doc_max_length", int),
        skip_instruction=field(path, record, "skip_instruction", bool),
    )


def _locate_sentence_transformer(folder: Path, name: str) -> Source:
    """A sentence-transformers folder: its transformer, its pooling; the attention stays as it was trained."""
    weights, pooling = folder, "mean"
    limit, skip_instruction = None, False
    modules = folder / "modules.json"
    for module in read_list(modules):
        module = field(modules, {"a module": module}, "a module", dict) or {}
        kind = (field(modules, module, "type", str) or "").rsplit(".", 1)[-1]
        if kind == "Transformer":
            weights = inside(modules, module, "path")
            limits = weights / "sentence_bert_config.json"
            limit = field(limits, read_object(limits), "max_seq_length", int) if limits.is_file() else None
        elif kind == "Pooling":
            record = read_object(inside(modules, module, "path") / "config.json")
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


def _sentence_transformer_pooling(record: dict[str, Any], folder: Path) -> str:
    ours = {"mean": "mean", "cls": "bos_token", "lasttoken": "last_token", "weightedmean": "weighted_mean"}
    modes = {name for name in ours if record.get("pooling_mode") == name}
    flags = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "lasttoken", "weightedmean_tokens": "weightedmean"}
    modes |= {name for flag, name in flags.items() if record.get(f"pooling_mode_{flag}")}
    if len(modes) != 1:
        raise WrongInput(f"{folder} pools by {sorted(modes) or 'an unknown mode'}: exactly one of {', '.join(ours)} loads here")
    return ours[modes.pop()]


def _sentence_transformer_prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    prompts = field(path, read_object(path), "prompts", dict) if path.is_file() else None
    return field(path, prompts or {}, "query", str) or ""
