"""The door of a model's folder: what its files say is read and checked here before transformers believes it."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ragvec.checked import Mismatch, check_range, check_value, shown
from ragvec.errors import Damaged, RagvecError, first_line
from ragvec.files import MOST_DESCRIBED, read_described

Value = TypeVar("Value")
_RESTORE = "restore it from where the model came from"
_READ = ("*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model")
_MOST_HEADER = 100_000_000  # bytes, as safetensors itself has it
_MOST_POSITIONS = 2**31
_TEXTS = ("model_type", "base_model_name_or_path")
# Keys of a configuration that tell how much is made before the weights are read; each weight is part of something so large.
_SIZES = (
    "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "n_embd", "n_head", "n_inner", "word_embed_proj_dim", "ffn_dim", "num_experts", "num_local_experts",
    "moe_intermediate_size", "num_labels", "type_vocab_size", "embedding_size", "dim", "hidden_dim", "d_model", "n_heads",
)  # fmt: skip
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers", "num_hidden_groups")
_LEARNED = frozenset(  # kinds of model that have a weight for each position
    ("albert", "bert", "camembert", "distilbert", "electra", "gpt2", "gpt_neo", "mpnet", "opt", "roberta", "xlm-roberta")
)
_ATTENTION = ("attn_implementation", "_attn_implementation")
_POSITIONS = ("max_position_embeddings", "n_positions")


@contextmanager
def foreign(what: str) -> Iterator[None]:
    """Turn whatever another library raises over files that anyone may have written into one line that begins with `what`."""
    try:
        yield
    except (RagvecError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of Rust's is no Exception
        raise Damaged(f"{what}: {first_line(error)}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises Damaged if there is none."""
    return _read(path, dict)


def read_list(path: Path) -> list[Any]:
    """The list in a JSON file. Raises Damaged if there is none."""
    return _read(path, list)


def field(path: Path, record: dict[str, Any], name: str, kind: Any) -> Any:
    """A field of a file's object as the type wanted; None where it is missing or null. Raises Damaged, naming file and key."""
    with _named(path):
        return None if record.get(name) is None else check_value(name, record[name], kind)


def inside(path: Path, record: dict[str, Any], name: str) -> Path:
    """What a file names relative to its own folder. Raises Damaged for a name that leads out of it."""
    relative = Path(field(path, record, name, str) or "")
    if relative.is_absolute() or ".." in relative.parts or "\0" in str(relative):
        raise Damaged(f"{path}: {name} {shown(str(relative))} leads out of the folder: {_RESTORE}")
    return path.parent / relative


def check_files(folder: Path) -> None:
    """Raises Damaged if a file that would be read is none: a pipe would never end; and if one that is read whole is too large.

    Links are good: the hub's cache has them.
    """
    for pattern in _READ:
        for path in folder.glob(pattern):
            if not path.is_file():
                raise Damaged(f"{path} is no file that can be read: {_RESTORE}")
            if path.suffix != ".safetensors" and (size := path.stat().st_size) > MOST_DESCRIBED:
                raise Damaged(f"{path} has {size:,} bytes, over {MOST_DESCRIBED:,}: {_RESTORE}")


def check_model(folder: Path) -> None:
    """Raises Damaged unless the JSON files of a folder with weights are objects, and its configuration fits its weights."""
    check_files(folder)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "added_tokens.json"):
        if (folder / name).is_file():
            read_object(folder / name)
    weight_parts(folder)
    path = folder / "config.json"
    if not path.is_file():
        return
    config = read_object(path)
    shapes = [shape for file in sorted(folder.glob("*.safetensors")) for shape, _ in header(file).values()]
    largest = max(map(math.prod, shapes), default=_MOST_POSITIONS)
    parts_of = [field(path, config, name, dict) or {} for name in config if name.endswith("_config")]
    for part in (config, *parts_of):
        check_config(path, part, max(largest, 1), len(shapes) or 1000)


def weight_parts(folder: Path) -> list[Path]:
    """The files that a model's weights are told to lie in, in order; none where they lie in one. Raises Damaged for others."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    names = field(index, read_object(index), "weight_map", dict[str, str]) or {}
    return [inside(index, {"weight_map": name}, "weight_map") for name in sorted(set(names.values()))]


def check_config(path: Path, config: dict[str, Any], largest: int, tensors: int) -> None:
    """Raises Damaged unless a configuration's sizes fit its weights: the values of the largest one, and their number."""
    for name in _TEXTS:
        field(path, config, name, str)
    for name in _ATTENTION:
        if "/" in str(config.get(name, "")):
            raise Damaged(
                f"{path}: {name} {shown(str(config[name]))} asks for a program from the hub: no code comes with a model"
            )
    positions = largest if config.get("model_type") in _LEARNED else _MOST_POSITIONS
    for names, most in ((_SIZES, largest), (_LAYERS, tensors), (_POSITIONS, positions)):
        for name in names:
            values = config.get(name)
            for value in values if isinstance(values, list) else [values]:
                if value is not None:
                    with _named(path):
                        check_range(name, check_value(name, value, int), 1 if name not in _POSITIONS else 0, most)


def check_adapter(folder: Path) -> None:
    """Raises Damaged unless an adapter's description is an object whose rank fits its weights."""
    check_files(folder)
    path = folder / "adapter_config.json"
    config = read_object(path)
    field(path, config, "base_model_name_or_path", str)
    weights = folder / "adapter_model.safetensors"
    widest = max((max(shape, default=1) for shape, _ in header(weights).values()), default=1) if weights.is_file() else 2**20
    patterns = field(path, config, "rank_pattern", dict[str, int]) or {}
    for name, rank in {"r": field(path, config, "r", int), **patterns}.items():
        if rank is not None:
            with _named(path):
                check_range(name, rank, 1, widest)


def header(path: Path) -> dict[str, tuple[list[int], str]]:
    """Each tensor's shape and dtype, from the header of a safetensors file. Raises Damaged if it has none."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(path.stat().st_size, _MOST_HEADER):
                raise Damaged(f"{path} is damaged: its header is longer than the file: copy the checkpoint again")
            tensors = json.loads(file.read(length))
        return {name: _tensor(name, tensor) for name, tensor in tensors.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: {first_line(error)}: copy the checkpoint again") from error


def _tensor(name: str, tensor: dict[str, Any]) -> tuple[list[int], str]:
    shape = check_value(f"shape of {name}", tensor["shape"], tuple[int, ...])
    return list(shape), check_value(f"dtype of {name}", tensor["dtype"], str)


def _read(path: Path, kind: type[Value]) -> Value:
    try:
        value = json.loads(read_described(path))
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not readable JSON ({first_line(error)}): {_RESTORE}") from error
    with _named(path):
        checked: Value = check_value("it", value, kind)
    return checked


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except Mismatch as error:
        raise Damaged(f"{path}: {error}: {_RESTORE}") from error
