"""Loading a transformers model, its adapters and its tokenizer; where it runs and in which precision."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ragvec.encoder.adapter import add_adapter
from ragvec.encoder.architecture import check_architecture
from ragvec.encoder.door import foreign
from ragvec.encoder.gguf import gguf_config, load_gguf, load_gguf_tokenizer
from ragvec.encoder.prompt import special_ids
from ragvec.errors import Damaged, RagvecError, WrongInput, WrongUsage, first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LONG_LOAD = 1 << 30  # bytes of weights from which loading shows a progress bar
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | None) -> torch.device:
    """The device asked for, or CUDA, or Apple's GPU, or the CPU, whichever is there first.

    Raises WrongInput for a device that is not there.
    """
    chosen = named_device(device)
    try:
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise WrongInput(_no_such_device(device, error)) from error
    return chosen


def named_device(device: str | None) -> torch.device:
    """The device of this name, the best here by default; raises WrongInput for a name that is none.

    Nothing is put on it, so it may not be there: a process among several must not take memory of a GPU that is not its own.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise WrongUsage(_no_such_device(device, error)) from error


def _no_such_device(device: str | None, error: Exception) -> str:
    return f"device {device!r} can't be used here ({first_line(error)}): choose cpu, or leave `device` out"


def choose_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """The precision asked for, or the fastest that keeps the vectors.

    On a CPU without bfloat16 instructions bfloat16 runs at an eighth of float32's speed, so the instructions decide.
    GPUs before Ampere only emulate it and get float16, in which states above 65,504 overflow: such a text fails by name.
    """
    if dtype is not None:
        if dtype not in DTYPES:
            raise WrongUsage(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        if dtype == "float16" and device.type == "cpu":
            raise WrongUsage("float16 has no fast kernels on a CPU: choose float32 or bfloat16, or leave `dtype` out")
        return DTYPES[dtype]
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX)."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def load_model(base: Path, adapters: Sequence[Path], *, dtype: torch.dtype | str, merge: bool) -> "PreTrainedModel":
    """The transformers model without a language-model head, adapters stacked upon it.

    dtype    "auto" = as stored
    merge    fold every adapter into the weights; otherwise the last one stays apart (as a peft model)
    Raises RagvecError for pickled weights, an architecture transformers doesn't know, or damaged files.
    """
    from transformers import AutoModel

    show_progress = _size(base) > _LONG_LOAD
    safe = {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}
    with foreign(f"{base} does not load as a transformers model"), quiet(show_progress=show_progress):
        if base.is_file():
            model, report = load_gguf(base, dtype=dtype, show_progress=show_progress)
        else:
            check_loads(base)
            model, report = AutoModel.from_pretrained(base, dtype=dtype, output_loading_info=True, **safe)
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))  # BERT's head, unused here
    if missing or report["mismatched_keys"]:
        what = f"{len(missing)} weights are missing, {missing[0]} among them" if missing else "weights have the wrong shape"
        raise Damaged(f"{base} is not a whole {model.config.model_type} model: {what}; download it again")
    model = getattr(model, "language_model", model)  # of a model that also sees or hears, the part that reads
    for number, adapter in enumerate(adapters, 1):
        model = add_adapter(model, adapter, merge=merge or number < len(adapters))
    return model


def load_tokenizer(folder: Path, *, lower_case: bool = False) -> "PreTrainedTokenizerBase":
    """The transformers tokenizer of a folder or a GGUF file; lower_case: one that reads every text so.

    Raises RagvecError if there is none.
    """
    from transformers import AutoTokenizer

    with foreign(f"{folder} holds no tokenizer that loads"):
        if folder.is_file():
            tokenizer = load_gguf_tokenizer(folder)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if lower_case and getattr(tokenizer, "backend_tokenizer", None) is not None:
            _read_in_lower_case(tokenizer.backend_tokenizer)
    return tokenizer


def _read_in_lower_case(backend: "Tokenizer") -> None:
    from tokenizers.normalizers import BertNormalizer, Lowercase, Sequence

    before = backend.normalizer
    steps: list[Any] = [] if before is None else [before]
    if isinstance(before, Sequence):
        steps = [before[place] for place in range(len(before))]
    if not any(isinstance(one, Lowercase) or (isinstance(one, BertNormalizer) and one.lowercase) for one in steps):
        backend.normalizer = Sequence([Lowercase(), *steps])


def refusal(base: Path, adapters: Sequence[Path], tokenizer: Path) -> str:
    """Why what lies in these folders can't be loaded, in a line; "" where nothing speaks against it. No weight is read."""
    try:
        check_loads(base)
        for adapter in adapters:
            refuse_pickle(adapter)
        backend: Any = getattr(load_tokenizer(tokenizer), "backend_tokenizer", None)
        with foreign(f"the tokenizer of {tokenizer} can't be used"):
            special_ids(backend)
    except RagvecError as error:
        return str(error)
    return ""


def check_loads(base: Path) -> None:
    """Raise RagvecError where a folder's or a GGUF file's model can't be loaded, as far as can be told without its weights."""
    if base.is_file():
        gguf_config(base)
    else:
        refuse_pickle(base)
        check_architecture(base)


def refuse_pickle(folder: Path) -> None:
    """Raise RagvecError if a folder holds no safetensors, naming the pickled weights it holds instead."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    found = f"only pickled weights ({pickles[0]}), which can run code when loaded" if pickles else "no weights"
    raise WrongInput(
        f"{folder} holds {found}: ragvec reads safetensors alone; on the hub look for a revision with them "
        "(`revision` refs/pr/…), or save the model with save_pretrained on a machine you trust"
    )


@contextmanager
def quiet(*, show_progress: bool) -> Iterator[None]:
    """Keep transformers from drawing bars and from reporting weights left out on purpose (the language-model head)."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not (show_progress and sys.stderr.isatty()):
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in ([folder] if folder.is_file() else folder.glob("*.safetensors")))
