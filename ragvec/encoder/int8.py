"""Linear layers in 8-bit integers on the CPU: weights with a scale for each output, inputs with one for each layer or token."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ragvec.errors import RagvecError, WrongUsage

_LARGEST = 127
_LARGEST_UNFUSED = 64  # AVX2 adds two products in 16 bits, which hold 2 · 255 · 64 and no more: larger weights would saturate
_LARGEST_OF_TOKEN = 126  # half precision may round a quotient up by one
_ZERO_POINT = 128  # of unsigned inputs: VNNI multiplies those by signed weights, and has no fast kernel for signed inputs
_LEAST_SCALE = 1e-12
_CHUNK = 1 << 18  # numbers that are rounded, or scaled, together: from pass to pass they stay in a core's cache
_MOST_SPREAD = 2.0  # a layer's largest input over its tokens' largest ones (root mean square): one bit lost to a common scale
_TRIED_ROWS, _TRIED_WIDTH, _TRIES = 256, 1024, 5
_SLOWEST = 4.0  # times float32's seconds: what runs in oneDNN's reference kernel takes a hundred times as long


class Int8Measured(NamedTuple):
    """What int8 weights cost and gain: the cosines to the vectors without them, and how much faster the largest layer is."""

    mean_cosine: float
    least_cosine: float
    speedup: float


class Inputs:
    """What one or several layers are given: queries, keys and values read the same states, which are rounded once for all."""

    def __init__(self) -> None:
        """Nothing seen so far: without `fix_scale`, each token has its own scale."""
        self.scale: float | None = None  # one for all tokens
        self._largest, self._squares, self._tokens = 0.0, 0.0, 0
        self._codes = WeakTensorKeyDictionary()  # kept as long as the states themselves

    def see(self, states: Tensor) -> None:
        """Take the range of states (…, width) into account."""
        largest = _rows(states).abs().amax(dim=1).double()
        if len(largest):
            self._largest = max(self._largest, largest.max().item())
            self._squares += largest.square().sum().item()
            self._tokens += len(largest)

    def fix_scale(self) -> None:
        """Choose one scale for all tokens if what was seen loses little by it; no token need then be searched for its own."""
        if self._tokens and self._largest**2 <= _MOST_SPREAD**2 * self._squares / self._tokens:
            self.scale = max(self._largest / _LARGEST, _LEAST_SCALE)

    def codes(self, states: Tensor) -> tuple[Tensor, Tensor | None]:
        """States (…, width) as unsigned codes (tokens, width), and scales (tokens, 1) unless one is fixed."""
        found: tuple[Tensor, Tensor | None] | None = self._codes.get(states)
        if found is None:
            found = self._codes[states] = _rounded(_rows(states), self.scale)
        return found


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, multiplied by 8-bit inputs into 32-bit sums (oneDNN: AVX2, VNNI, AMX)."""

    scales: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, inputs: Inputs | None = None) -> None:
        """Take over a layer's weights, each output's rounded to as many steps of its largest as the CPU can multiply."""
        super().__init__()
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / largest_weight()).clamp_(min=_LEAST_SCALE)
        codes = (weight / scales[:, None]).round_().to(torch.int8)
        self.weights = weight.numel()
        self.inputs = inputs or Inputs()
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())
        self._zeros = torch.zeros(len(scales), dtype=torch.long)
        self._packed = torch.ops.onednn.qlinear_prepack(codes, None)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (…, inputs) to (…, outputs), in their dtype."""
        codes, scales = self.inputs.codes(states)
        if scales is None:
            assert self.inputs.scale is not None
            out = self._multiply(codes, self.inputs.scale, self.bias, states.dtype)
        else:
            out = self._multiply(codes, 1.0, None, states.dtype).mul_(scales)
            if self.bias is not None:
                out += self.bias
        return out.view(*states.shape[:-1], -1)

    def __getstate__(self) -> NoReturn:
        raise RagvecError("int8 weights are made while loading and can't be pickled: load the encoder in each process")

    def _multiply(self, codes: Tensor, scale: float, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, scale, _ZERO_POINT, self._packed, self.scales, self._zeros, bias, 1.0, 0, dtype, "none", [], ""
        )
        return out


def largest_weight() -> int:
    """The step of the largest weight of an output: 127 where the CPU adds products in 32 bits (VNNI, AMX), else 64."""
    has = torch.cpu.get_capabilities()
    return _LARGEST if any(has.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8")) else _LARGEST_UNFUSED


def check_int8(device: torch.device, torch_compile: bool) -> None:
    """Raises RagvecError where int8 weights have no fast kernels, or torch.compile can't do with theirs."""
    if torch_compile:
        raise WrongUsage("layers with int8 weights can't be compiled: choose one of the two")
    if device.type != "cpu":
        raise WrongUsage(f"int8 weights run on the CPU, not on {device.type}: choose bfloat16, or `device` cpu")
    if not hasattr(torch.ops.onednn, "qlinear_prepack"):
        raise RagvecError("this build of torch has no int8 kernels for the CPU: choose float32 or bfloat16")
    plain = nn.Linear(_TRIED_WIDTH, _TRIED_WIDTH, bias=False)
    small, speed = Int8Linear(plain), 0.0
    for _ in range(_TRIES):  # again while it seems slow: something else may have had the processor
        if speed * _SLOWEST < 1:
            speed = max(speed, speedup(plain, small))
    if speed * _SLOWEST < 1:
        raise RagvecError(f"int8 layers take {1 / speed:.0f} times as long as float32's here: choose float32 or bfloat16")


@torch.inference_mode()
def speedup(linear: nn.Linear, small: Int8Linear) -> float:
    """How many times as fast as a layer the same with int8 weights is, on 256 tokens, rounding them included."""
    states = torch.randn(_TRIED_ROWS, linear.in_features).to(linear.weight.dtype)
    seconds = [min(_seconds(layer, states.clone()) for _ in range(_TRIES)) for layer in (linear, small)]
    return seconds[0] / max(seconds[1], 1e-9)


@contextmanager
def watched_inputs(model: nn.Module) -> Iterator[dict[nn.Module, Inputs]]:
    """While it lasts, see what a model's linear layers are given; those given the very same states share their Inputs."""
    inputs: dict[nn.Module, Inputs] = {}
    last: list[tuple[Tensor, Inputs]] = []

    def see(linear: nn.Module, arguments: tuple[Tensor]) -> None:
        states = arguments[0]
        shared = last[0][1] if last and last[0][0] is states else None
        own = inputs.setdefault(linear, shared or Inputs())
        if own is not shared:
            own.see(states)
        last[:] = [(states, own)]

    hooks = [layer.register_forward_pre_hook(see) for layer in model.modules() if isinstance(layer, nn.Linear)]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def use_int8_weights(model: nn.Module, inputs: dict[nn.Module, Inputs]) -> float:
    """Replace every linear layer of a model, in place.

    inputs   what its layers were given, as `watched_inputs` saw it; layers that saw nothing have a scale for each token
    returns  how many times as fast the largest layer is now; 1.0 where there is none
    """
    for seen in set(inputs.values()):
        seen.fix_scale()
    largest, gained = 0, 1.0
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                small = Int8Linear(child, inputs.get(child))
                if small.weights > largest:
                    largest, gained = small.weights, speedup(child, small)
                setattr(module, name, small)
    return gained


def int8_weights(model: nn.Module) -> int:
    """How many of a model's weights are int8."""
    return sum(module.weights for module in model.modules() if isinstance(module, Int8Linear))


def sample_texts() -> tuple[Sequence[str], Sequence[str]]:
    """Texts of the sample corpus, English and Korean: what layers' inputs are seen on, and others to measure the loss on."""
    from ragvec.corpus import read_documents
    from ragvec.data import data_path

    texts = [document.text for document in read_documents(data_path("corpus.jsonl"))]
    return texts[::3], texts[1::3]


def measure(exact: np.ndarray, other: np.ndarray, speedup: float) -> Int8Measured:
    """Vectors (n, d) of length 1 beside those of the same texts without int8 weights."""
    cosines = (exact * other).sum(axis=1)
    return Int8Measured(float(cosines.mean()), float(cosines.min()), speedup)


def _rounded(rows: Tensor, scale: float | None) -> tuple[Tensor, Tensor | None]:
    """Rows (tokens, width) as unsigned codes, with the given scale or else one for each token."""
    codes = torch.empty(rows.shape, dtype=torch.int8)
    scales = rows.new_empty(len(rows), 1) if scale is None else None
    for some in _chunks(rows):
        part = rows[some]
        if scales is None:
            assert scale is not None
            codes[some] = (part * (1 / scale)).round_().clamp_(-_LARGEST, _LARGEST)
        else:
            own = (part.abs().amax(dim=1, keepdim=True) / _LARGEST_OF_TOKEN).clamp_(min=_LEAST_SCALE)
            codes[some] = (part / own).round_()
            scales[some] = own
    return codes.view(torch.uint8).add_(_ZERO_POINT), scales  # adding wraps around: -128 becomes 0


def _chunks(rows: Tensor) -> Iterator[slice]:
    step = max(_CHUNK * torch.get_num_threads() // rows.shape[1], 1)
    return (slice(start, start + step) for start in range(0, len(rows), step))


def _rows(states: Tensor) -> Tensor:
    return states.reshape(-1, states.shape[-1])


def _seconds(layer: nn.Module, states: Tensor) -> float:
    start = time.perf_counter()
    layer(states)
    return time.perf_counter() - start
