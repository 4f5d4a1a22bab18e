"""Whether transformers can make a model of what a configuration says, without code of strangers or weights in a form unread."""

from pathlib import Path
from typing import Any

import torch

from ragvec.encoder.door import field, foreign, read_object
from ragvec.errors import WrongInput


def check_architecture(folder: Path) -> None:
    """Raise RagvecError for a model that needs its own code, is unknown to transformers, or whose weights it can't read here.

    Only config.json is read.
    """
    from transformers import CONFIG_MAPPING, __version__

    path = folder / "config.json"
    config = read_object(path)
    kind = field(path, config, "model_type", str)
    if kind is not None and kind not in CONFIG_MAPPING:
        if config.get("auto_map"):
            raise WrongInput(
                f"{folder} is a model of type {kind}, which needs the code in its own repository (auto_map in config.json): "
                "ragvec runs no code that comes with a model; choose one that transformers knows"
            )
        raise WrongInput(f"{folder} is a model of type {kind}, which transformers {__version__} does not know: upgrade it")
    for name in ("dtype", "torch_dtype"):
        precision = field(path, config, name, str)
        if precision is not None and not isinstance(getattr(torch, precision.removeprefix("torch."), None), torch.dtype):
            raise WrongInput(f"{path}: {name} is {precision!r:.40}, no precision of torch's: float32, bfloat16 and float16 are")
    if quantized := field(path, config, "quantization_config", dict):
        _check_quantized(folder, quantized)


def _check_quantized(folder: Path, config: dict[str, Any]) -> None:
    from transformers.quantizers import AutoHfQuantizer

    what = f"{folder} holds weights quantised by {str(config.get('quant_method'))[:40]}, which can't be read here"
    with foreign(f"{what} (choose the model as it was before)"):
        AutoHfQuantizer.from_config(config, pre_quantized=True).validate_environment(device_map=None, weights_only=True)
