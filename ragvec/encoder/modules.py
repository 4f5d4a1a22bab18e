"""What a sentence-transformers folder says: where its weights lie, how it pools, its prompts, its lengths."""

from pathlib import Path
from typing import Any, NamedTuple

from ragvec.encoder.door import check_files, field, foreign, inside, read_list, read_object
from ragvec.encoder.instruction import with_title_place
from ragvec.encoder.prompt import special_ids
from ragvec.encoder.settings import EncoderSettings
from ragvec.errors import WrongInput

MODULES_FILE = "modules.json"
_LENGTH_FILES = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_DOCUMENTS = ("document", "passage", "corpus")  # the names of a document's prompt, in sentence-transformers' order
# sentence-transformers' poolings under their names here
_MODES = {
    "cls": "bos_token", "max": "max", "mean": "mean", "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean", "lasttoken": "last_token",
}  # fmt: skip
# and the flags of its older versions, in the order in which several are joined
_FLAGS = {
    "cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean", "lasttoken": "lasttoken",
}  # fmt: skip
# the modules that are read, and where each may stand; Dropout does nothing to a vector that is made
_ORDER = {"Transformer": 0, "WordWeights": 1, "Pooling": 2, "Dense": 3, "Dropout": 3, "Normalize": 4}
_UNLIMITED = 2**20  # tokens, where nothing says how long a text may be


class Modules(NamedTuple):
    """A folder's parts: the transformer's folder, the linear layers behind the pooling, and what the rest comes to."""

    transformer: Path
    projections: tuple[Path, ...]
    settings: EncoderSettings


def read_modules(folder: Path, name: str, *, base: Path | None = None) -> Modules:
    """Read modules.json and what it names. Raises RagvecError for a module that has no counterpart here.

    The attention stays as the model was trained; name: of the source, as the user gave it; base: where the configuration lies,
    if the transformer is an adapter.
    """
    transformer = folder
    pooling: dict[str, Any] | None = None
    projections: list[Path] = []
    weights: Path | None = None
    path, before = folder / MODULES_FILE, ""
    for module in read_list(path):
        kind = _kind(folder, field(path, {"a module": module}, "a module", dict) or {}, before)
        before = kind
        if kind == "Transformer":
            transformer = inside(path, module, "path")
        elif kind == "Pooling":
            pooling = _pooling(inside(path, module, "path") / "config.json", folder)
        elif kind == "WordWeights":
            weights = inside(path, module, "path")
        elif kind == "Dense":
            projections.append(inside(path, module, "path"))
    if pooling is None:
        raise WrongInput(f"{path} names no Pooling: without one a text has no vector; take the folder as the library wrote it")
    if weights is not None:
        _check_weights(weights, transformer, pooling)
    limits = _limits(transformer, base or transformer)
    settings = EncoderSettings(
        **pooling,
        attention="unchanged",
        border="prompt" if weights is None else "text",
        separator="",
        base_model=name,
        lower_case=limits.lower_case,
        projections=tuple(one.name for one in projections),
        **_told(folder),
    ).override(max_length=limits.length)
    return Modules(transformer, tuple(projections), settings)


def _kind(folder: Path, module: dict[str, Any], before: str) -> str:
    """A module's class, one of the library's own. Raises WrongInput for another, or one that can't follow the one before it."""
    package, _, kind = (field(folder / MODULES_FILE, module, "type", str) or "").rpartition(".")
    if package.split(".")[0] != "sentence_transformers":
        raise WrongInput(
            f"{folder} uses the module {package}.{kind}, code that comes with the model, and ragvec runs none: "
            "choose a model of sentence-transformers' own modules"
        )
    if kind not in _ORDER or _ORDER[kind] < _ORDER.get(before, 0) or not before and kind != "Transformer":
        place = f" after {before}" if before and kind in _ORDER else " at first" if kind in _ORDER else ""
        raise WrongInput(
            f"{folder} uses the sentence-transformers module {kind}{place}: "
            "only Transformer, WordWeights, Pooling, Dense and at last Normalize load here"
        )
    return kind


def _check_weights(weights: Path, transformer: Path, pooling: dict[str, Any]) -> None:
    """Raises RagvecError unless a WordWeights leaves out of the mean what the tokenizer puts before a text, and no more.

    `ragvec export` writes it, where neither that nor the instruction is pooled.
    """
    import numpy as np
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    check_files(weights)
    check_files(transformer)
    with foreign(f"{weights} can't be read"):
        values = load_file(weights / "model.safetensors")["emb_layer.weight"].reshape(-1)
        front, _ = special_ids(Tokenizer.from_file(str(transformer / "tokenizer.json")))
    left_out = np.flatnonzero(values != 1)
    if pooling != {"pooling": "mean", "skip_instruction": True} or values[left_out].any() or {*left_out} != {*front}:
        raise WrongInput(
            f"{weights}: weights of words load here only where they leave the tokens before a text out of its mean"
        )


class _Limits(NamedTuple):
    length: int
    lower_case: bool


def _limits(transformer: Path, base: Path) -> _Limits:
    """How many tokens are read: what is written beside the weights, else what tokenizer and positions allow."""
    path = next((path for name in _LENGTH_FILES if (path := transformer / name).is_file()), None)
    record = read_object(path) if path else {}
    if path and "message" in (field(path, record, "modality_config", dict) or {}):
        raise WrongInput(f"{path}: its texts go through a chat template: only models that read plain text load here")
    if path and (task := field(path, record, "transformer_task", str)) not in (None, "feature-extraction"):
        raise WrongInput(f"{path}: the model's task is {task}: only feature-extraction loads here")
    length = field(path, record, "max_seq_length", int) if path else None
    if length is not None and length < 1:
        raise WrongInput(f"{path}: max_seq_length is {length}, and a text has a token at least: correct it")
    if length is None:
        length = min([_UNLIMITED, *_most(transformer / "tokenizer_config.json", "model_max_length")])
        length = min([length, *_most(base / "config.json", "max_position_embeddings")])
    return _Limits(length, bool(path and field(path, record, "do_lower_case", bool)))


def _most(path: Path, name: str) -> list[int]:
    """A limit in a file, if there is one; tokenizers without a limit have 10^30, as a float in some files."""
    value = read_object(path).get(name) if path.is_file() else None
    return [int(value)] if isinstance(value, int | float) and value >= 1 else []


def _told(folder: Path) -> dict[str, Any]:
    """What config_sentence_transformers.json says: prompts and dimension. A default prompt stands where no other is named."""
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return {"query_instruction": ""}
    record = read_object(path)
    prompts = {
        name: with_title_place(prompt)
        for name in field(path, record, "prompts", dict) or {}
        if (prompt := field(path, record["prompts"], name, str)) is not None
    }
    common = prompts.get(field(path, record, "default_prompt_name", str) or "", "")
    if not prompts.keys().isdisjoint(("query", *_DOCUMENTS)):
        common = ""
    return {
        "query_instruction": prompts.get("query", common),
        "document_instruction": next((prompts[name] for name in _DOCUMENTS if name in prompts), common),
        "prompts": prompts,
        "truncate_dim": field(path, record, "truncate_dim", int),
    }


def _pooling(path: Path, folder: Path) -> dict[str, Any]:
    record = read_object(path)
    skips = field(path, record, "include_prompt", bool) is False
    named = record.get("pooling_mode")
    modes = [named] if isinstance(named, str) else named
    if modes is None:
        modes = [mode for flag, mode in _FLAGS.items() if field(path, record, f"pooling_mode_{flag}", bool)] or ["mean"]
    if not isinstance(modes, list) or not modes or any(not isinstance(one, str) or one not in _MODES for one in modes):
        raise WrongInput(f"{folder} pools by {modes!r:.80}, an unknown mode: {', '.join(_MODES)} load here")
    # without the prompt the first position is the text's, and weights count on from the prompt's
    ours = [_MODES[one] for one in modes]
    if skips:
        ours = [{"bos_token": "first_token", "weighted_mean": "position_mean"}.get(one, one) for one in ours]
    return {"pooling": "+".join(ours), "skip_instruction": skips}
