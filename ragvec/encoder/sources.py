"""Where an encoder comes from: a folder, a hub id or a name that ships with ragvec, in any of the layouts people have.

Layouts, in the order they are tried: ragvec (ragvec.json, an adapter's too), sentence-transformers (modules.json; its
transformer may be an adapter), adapter (adapter_config.json, as the reference publishes), merged reference
(llm2vec_config.json), plain transformers checkpoint (config.json). A GGUF file is a source by itself.
"""

import logging
import re
from dataclasses import dataclass, replace
from filecmp import cmp
from pathlib import Path

from ragvec.artefacts import is_gguf
from ragvec.encoder.base_weights import check_base
from ragvec.encoder.door import check_adapter, check_files, check_model, field, inside, read_object
from ragvec.encoder.gguf import gguf_settings
from ragvec.encoder.modules import MODULES_FILE, read_modules
from ragvec.encoder.settings import SETTINGS_FILE, EncoderSettings, read_settings
from ragvec.errors import Damaged, NotFound, WrongInput, first_line

ADAPTER_FILE = "adapter_config.json"
REFERENCE_FILE = "llm2vec_config.json"
_FIRST_STAGE = "-mntp"
_SECOND_STAGES = ("-supervised", "-unsup-simcse")  # published as a second adapter upon …-mntp
_MOST_BASES = 8  # of adapters upon each other's folders, before it is taken for a circle
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_PLAIN = re.compile(r"\w[\w.-]*")  # a name, not a path
_WANTED = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*/config.json"]


@dataclass(frozen=True, slots=True)
class Source:
    """What to load: base weights, adapters to stack on them in order, the tokenizer's folder, and the settings.

    projections  folders of the linear layers behind the pooling
    base_name, base_revision  by which the base was found: what `settings` say of it is where it came from itself
    """

    base: Path
    adapters: tuple[Path, ...]
    tokenizer: Path
    settings: EncoderSettings
    projections: tuple[Path, ...] = ()
    base_name: str = ""
    base_revision: str | None = None


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
    located = _locate_folder(fetch(source, revision, search), source, revision, search)
    for adapter in adapters:
        folder = fetch(adapter, None, search)
        if not (folder / ADAPTER_FILE).is_file():
            raise NotFound(f"{adapter} holds no {ADAPTER_FILE}: pass an adapter's folder or hub id")
        located = _stack(located, folder, adapter)
    if located.base.is_dir():
        check_model(located.base)
    for folder in (located.tokenizer, *located.projections):
        check_files(folder)
    return located


def named_prompt(source: str | None, name: str, *, revision: str | None = None, offline: bool = False) -> str:
    """What a source's encoder has texts read after under this name; None = the bundled one. No weight is read.

    Raises NotFound if it has no prompt of the name, naming those that it has.
    """
    from ragvec.data import data_path

    return locate(source or str(data_path("encoder")), revision=revision, offline=offline).settings.prompt(name)


def fetch(source: str, revision: str | None, search: _Search = _Search(), near: Path | None = None) -> Path:
    """The local folder or GGUF file of a source: itself, one relative to `near`, what ships with ragvec under that name, or a
    snapshot of the hub's repository.

    Offline (or with HF_HUB_OFFLINE=1) the hub's cache alone is asked. What a file or an index names is taken from the cache
    where it is there; fetching it is said in one line, for nobody asked for that. Never fetches pickled weights.
    A name of the hub may end in "@" and a revision: a file that names several models has no other place for one.
    """
    try:
        for folder in (near / source if near else None, Path(source).expanduser()):
            if folder is not None and (folder.is_dir() or is_gguf(folder)):
                return folder.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise WrongInput(f"{source[:200]!r} can't be a model folder ({error}): check the path") from error
    if (folder := shipped(source)) is not None:
        return folder
    source, _, named = source.partition("@")
    revision = named or revision
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


def is_of_hub(name: str, path: Path) -> bool:
    """Whether what was found under a name is the hub's: a snapshot in its cache, or a folder of a repository's own."""
    is_snapshot = "snapshots" in (path.parent.name, path.parent.parent.name)
    return is_snapshot and name.count("/") == 1 and not name.startswith(".") and not Path(name).exists()


def names_hub(name: str, folder: Path) -> bool:
    """Whether what an encoder's folder names can be a repository on the hub: its form, and nothing here bears the name."""
    return bool(HUB_ID.fullmatch(name.partition("@")[0])) and not Path(name).exists() and not (folder / name).exists()


def shipped(name: str) -> Path | None:
    """The adapter that ships with ragvec under a name; None if none does."""
    from ragvec.data import data_path

    folder = data_path("adapters") / name
    return folder if _PLAIN.fullmatch(name) and (folder / ADAPTER_FILE).is_file() else None


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
    if folder.is_file():
        return Source(folder, (), folder, gguf_settings(folder, name), base_name=name)
    is_adapter, is_own = (folder / ADAPTER_FILE).is_file(), (folder / SETTINGS_FILE).is_file()
    if is_own and not is_adapter:
        settings = read_settings(folder)
        projections = _projections(folder, settings)
        return Source(folder, (), folder, settings, projections=projections, base_name=name, base_revision=revision)
    if (folder / MODULES_FILE).is_file() and not is_own and not (folder / REFERENCE_FILE).is_file():
        return _locate_modules(folder, name, revision, search)
    if is_adapter:
        return _locate_adapter(folder, name, revision, search)
    if (folder / "config.json").is_file():
        settings = EncoderSettings(base_model=name, base_revision=revision)
        settings = _reference_settings(folder, settings)
        return Source(folder, (), folder, settings, base_name=name, base_revision=revision)
    named = next((f": name the file, {path}" for path in sorted(folder.glob("*.gguf"))), "")
    raise NotFound(
        f"{folder} is no model folder: it holds none of {SETTINGS_FILE}, {MODULES_FILE}, {ADAPTER_FILE}, config.json{named}"
    )


def _locate_modules(folder: Path, name: str, revision: str | None, search: _Search) -> Source:
    """A sentence-transformers folder. Where its transformer is an adapter, the rest is still what the folder says."""
    modules = read_modules(folder, name)
    if not (modules.transformer / ADAPTER_FILE).is_file():
        settings, where = replace(modules.settings, base_revision=revision), modules.transformer
        return Source(where, (), where, settings, projections=modules.projections, base_name=name, base_revision=revision)
    of_adapter = name if modules.transformer == folder else str(modules.transformer)
    located = _locate_adapter(modules.transformer, of_adapter, revision, search)
    modules = read_modules(folder, name, base=located.base)
    told = {item: getattr(located.settings, item) for item in ("base_model", "base_revision", "adapters")}
    return replace(located, settings=replace(modules.settings, **told), projections=modules.projections)


def _projections(folder: Path, settings: EncoderSettings) -> tuple[Path, ...]:
    path = folder / SETTINGS_FILE
    return tuple(inside(path, {"projections": name}, "projections") for name in settings.projections)


def _locate_adapter(folder: Path, name: str, revision: str | None, search: _Search) -> Source:
    """Base, then the adapters this one was trained upon, then this one."""
    path = folder / ADAPTER_FILE
    search = search.below(path)
    record = read_object(path)
    base_name = field(path, record, "base_model_name_or_path", str)
    if not base_name:
        raise WrongInput(f"{folder / ADAPTER_FILE} names no base_model_name_or_path: set it to the base model")
    settings = read_settings(folder) if (folder / SETTINGS_FILE).is_file() else None
    base_revision = settings.base_revision if settings else field(path, record, "revision", str)
    base = _fetch_below(folder, base_name, base_revision, search)
    located = _locate_folder(base, base_name, base_revision, search)
    earlier = settings.adapters if settings else _first_stage(name)
    for adapter in earlier:
        located = _stack(located, _fetch_below(folder, adapter, None, search), adapter)
    located = _stack(located, folder, f"{name}@{revision}" if revision and is_of_hub(name, folder) else name)
    if settings is None:
        return located
    settings = replace(settings, adapters=located.settings.adapters)
    return replace(located, settings=settings, projections=_projections(folder, settings))


def adapter_needs(folder: Path) -> tuple[str, ...]:
    """What an adapter's folder with a ragvec.json names as trained upon: the base, then the adapters before it."""
    path = folder / ADAPTER_FILE
    return (field(path, read_object(path), "base_model_name_or_path", str) or "", *read_settings(folder).adapters)


def _fetch_below(folder: Path, source: str, revision: str | None, search: _Search) -> Path:
    """What an adapter's folder was trained upon. Raises NotFound, naming both, if it is no longer where it was."""
    try:
        return fetch(source, revision, search, near=folder)
    except NotFound as error:
        raise NotFound(
            f"{folder} is an adapter upon {source}, which is not found from there ({error}): move both together, or pass the "
            "adapter's name in `adapters` to the base. `ragvec export … --to ragvec` makes a folder that needs no other"
        ) from error


def _first_stage(name: str) -> tuple[str, ...]:
    """The published adapter that comes before a published second-stage adapter, known by its name."""
    for ending in _SECOND_STAGES:
        if name.rstrip("/").endswith(_FIRST_STAGE + ending):
            return (name.rstrip("/").removesuffix(ending),)
    return ()


def _stack(located: Source, adapter: Path, name: str) -> Source:
    """The adapter upon what was located. What the folder says of pooling, lengths and instructions holds from here on."""
    check_adapter(adapter)
    settings = replace(located.settings, adapters=(*located.settings.adapters, name))
    projections = located.projections
    if (adapter / SETTINGS_FILE).is_file():
        own = read_settings(adapter)
        check_adapter_fits(adapter, own, located)
        told = {item: getattr(settings, item) for item in ("base_model", "base_revision", "adapters")}
        settings, projections = replace(own, **told), _projections(adapter, own)
    has_tokenizer = any((adapter / file).is_file() for file in ("tokenizer.json", "tokenizer.model"))
    return replace(
        located,
        adapters=(*located.adapters, adapter),
        tokenizer=adapter if has_tokenizer else located.tokenizer,
        settings=_reference_settings(adapter, settings),
        projections=projections,
    )


def check_adapter_fits(adapter: Path, own: EncoderSettings, located: Source) -> None:
    """Raises WrongInput unless what was located is what an adapter of these settings was trained upon, as far as it is known.

    Earlier adapters are compared where they lie where its folder names them.
    """
    check_base(adapter, own, located.base, stacked=len(located.adapters))
    for name, there in zip(reversed(own.adapters), reversed(located.adapters), strict=False):
        try:
            wanted = fetch(name, None, _Search(offline=True), near=adapter)
        except NotFound:
            continue
        ours, theirs = (folder / "adapter_model.safetensors" for folder in (wanted, there))
        if ours.is_file() and theirs.is_file() and not cmp(ours, theirs, shallow=False):
            raise WrongInput(f"the adapter {adapter} was trained upon {wanted}, not upon {there}: load it by its own name")


def _reference_settings(folder: Path, settings: EncoderSettings) -> EncoderSettings:
    """Take over what the reference's llm2vec_config.json says, if there is one."""
    path = folder / REFERENCE_FILE
    if not path.is_file():
        return settings
    record = read_object(path)
    return settings.override(
        pooling=field(path, record, "pooling_mode", str),
        max_length=field(path, record, "max_length", int),
        doc_max_length=field(path, record, "doc_max_length", int),
        skip_instruction=field(path, record, "skip_instruction", bool),
    )
