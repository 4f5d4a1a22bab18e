"""A GPU in imitation: tensors that say they are on one, and torch's variable-length flash attention with the kernel's checks.

`FakeCuda` makes CPU tensors that report `cuda:0`; mixing them with the host's is an error, as is passing a limit of the kernel.
It writes down every call that would have made the host wait for the GPU.
"""

import pytest
import torch
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from ragvec.encoder import kernel

GPU = torch.device("cuda", 0)
_ARGUMENTS = (
    "Tensor query, Tensor key, Tensor value, Tensor? cum_seq_q, Tensor? cum_seq_k, SymInt max_q, SymInt max_k, "
    "float dropout_p, bool is_causal, bool return_debug_mask, *, float? scale=None, SymInt? window_size_left=None, "
    "SymInt? window_size_right=None, Tensor? seqused_k=None, Tensor? alibi_slopes=None"
)
_RETURNS = "(Tensor output, Tensor softmax_logsumexp, Tensor rng_state, Tensor unused, Tensor debug_attn_mask)"
_PAGED = ", Tensor? block_table=None, int? num_splits=None"
SCHEMAS = {  # as native_functions.yaml of the wheels of 2.11.0, 2.12.1 and 2.13.0 has them
    version: f"aten::_flash_attention_forward({_ARGUMENTS}{more}) -> {_RETURNS}"
    for version, more in {"2.11": "", "2.12": _PAGED, "2.13": _PAGED}.items()
}
_KINDS = {"Tensor": torch.Tensor, "int": int, "float": float, "bool": bool}
_KINDS |= {f"Optional[{name}]": (kind, type(None)) for name, kind in _KINDS.items()}
_WAITS = {
    torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.nonzero, torch.nonzero,
    torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.masked_select, torch.Tensor.unique,
}  # fmt: skip
_READS = {torch.Tensor.device.__get__: GPU, torch.Tensor.is_cuda.__get__: True, torch.Tensor.is_cpu.__get__: False}


class OnGpu(torch.Tensor):
    """A tensor that says it is on the GPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return FakeCuda.now.run(function, args, kwargs or {})


class Event:
    """One of torch.cuda's."""

    def __init__(self, **options) -> None:
        self.options, self.recorded = options, False

    def record(self, stream) -> None:
        assert stream == ("stream", GPU)
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded

    def elapsed_time(self, end) -> float:
        assert self.options["enable_timing"] and end.options["enable_timing"] and end.recorded
        return 1.0


class FakeCuda(TorchFunctionMode):
    """As a context: torch has a GPU of this generation. `waits`: names of what made the host wait; `calls`: of the kernel."""

    now: "FakeCuda"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, capability=(9, 0), version="2.13") -> None:
        super().__init__()
        self.waits: list[str] = []
        self.calls: list[dict] = []
        self._pinned: set[int] = set()
        self._keep: list[torch.Tensor] = []  # so that no two tensors have the same address
        self._schema = torch._C.parse_schema(SCHEMAS[version])
        FakeCuda.now = self
        kernel.has_flash.cache_clear()
        for name, value in {
            "get_device_capability": lambda device=None: capability, "Event": Event, "empty_cache": lambda: None,
            "current_stream": lambda device: ("stream", device), "is_available": lambda: True,
            "is_bf16_supported": lambda including_emulation=True: True,
            "get_rng_state": lambda device: torch.get_rng_state(), "set_rng_state": lambda state, device: None,
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(kernel, "_kernel", lambda: self.flash)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return self.run(function, args, kwargs or {})

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        kernel.has_flash.cache_clear()

    def to_gpu(self, module: torch.nn.Module) -> None:
        """Move a module's weights and buffers, in place."""
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[name] = _parameter(weight)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = buffer.as_subclass(OnGpu)

    def run(self, function, args, kwargs):
        """Do what torch would, on the CPU."""
        if function is torch.Tensor.backward:
            loss, one = _bare(args[0]), torch.ones(())
            with self:  # activations may be computed again on the way back
                return _engine_run_backward((loss,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        with torch._C.DisableTorchFunction():
            tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
            on_gpu = [each for each in tensors if isinstance(each, OnGpu)]
            if function in _READS and on_gpu:
                return _READS[function]
            if function == torch.Tensor.grad.__get__ or function is torch.autograd.grad:
                return function(*args, **kwargs)  # of the tensors themselves: an alias has none
            if function in (torch.Tensor.pin_memory, torch.Tensor.is_pinned):
                return self._pin(function, args[0])
            target = _target(function, args, kwargs)
            if function is torch.Tensor.to or function is torch.Tensor.cpu:
                return self._moved(function, args, kwargs, target)
            self._check(function, args, kwargs, tensors, on_gpu)
            pinned = kwargs.pop("pin_memory", False)
            kwargs = {
                name: torch.device("cpu") if name == "device" and _is_gpu(value) else value for name, value in kwargs.items()
            }
            with torch.autocast("cpu", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda") and bool(on_gpu)):
                out = function(*tree_map(_bare, args), **tree_map(_bare, kwargs))
            if function is torch.Tensor.copy_:
                return args[0]
            if pinned:
                self._note(out)
            return tree_map(_gpu, out) if on_gpu or _is_gpu(target) else out

    def _check(self, function, args, kwargs, tensors, on_gpu) -> None:
        if function is torch.Tensor.copy_:
            asynchronous = kwargs.get("non_blocking") and (id(_bare(args[0])) in self._pinned or id(args[0]) in self._pinned)
            if len(on_gpu) == 1 and not asynchronous:
                self.waits.append("copy_")
            return
        if on_gpu and (function in _WAITS or _indexes_by_mask(function, args)):
            self.waits.append(function.__name__)
        if on_gpu and function is not torch.Tensor.__getitem__ and any(t.dim() for t in tensors if not isinstance(t, OnGpu)):
            raise RuntimeError(f"{function}: expected all tensors to be on the same device")
        if function is torch.Tensor.__getitem__ and len({isinstance(t, OnGpu) for t in tensors}) > 1:
            raise RuntimeError("an index on the host would be copied to the GPU, and waited for")

    def _pin(self, function, tensor):
        assert not isinstance(tensor, OnGpu), "only the host's memory can be pinned"
        if function is torch.Tensor.is_pinned:
            return id(tensor) in self._pinned or id(tensor._base) in self._pinned
        copy = tensor.clone()
        self._note(copy)
        return copy

    def _note(self, tensor) -> None:
        self._pinned.add(id(tensor))
        self._keep.append(tensor)

    def _moved(self, function, args, kwargs, target):
        source = args[0]
        if isinstance(source, OnGpu):
            if function is torch.Tensor.cpu or (target is not None and not _is_gpu(target)):
                self.waits.append("to the host")
                return source.as_subclass(torch.Tensor)
        elif target is not None and _is_gpu(target):
            if not (kwargs.get("non_blocking") and self._pin(torch.Tensor.is_pinned, source)):
                self.waits.append("to the GPU")
            return source.clone().as_subclass(OnGpu)
        dtypes = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.dtype)]
        dtypes += [each.dtype for each in args[1:] if isinstance(each, torch.Tensor)]
        out = _bare(source).to(dtypes[0]) if dtypes else _bare(source)
        return out.as_subclass(OnGpu) if isinstance(source, OnGpu) else out

    def flash(self, *positional, **options):
        """aten._flash_attention_forward: its checks, and what it computes, written out text by text."""
        given = self._bound(positional, options)
        query, key, value, starts, key_starts, longest, longest_key, dropout, causal, debug = list(given.values())[:10]
        assert not debug and not any(given[name] is not None for name in given.keys() & {"seqused_k", "alibi_slopes"})
        for states in (query, key, value):
            assert isinstance(states, OnGpu) and states.device == GPU, "states on the GPU"
            assert states.dtype in (torch.float16, torch.bfloat16) and states.dtype == query.dtype, "one half precision"
            assert states.dim() == 3 and states.stride(-1) == 1, "the last dimension is contiguous"
            assert states.shape[-1] == query.shape[-1] <= 256 and states.shape[-1] % 8 == 0, "head width"
        assert key.shape[1] == value.shape[1] and query.shape[1] % key.shape[1] == 0, "grouped heads"
        for offsets in (starts, key_starts):
            assert isinstance(offsets, OnGpu) and offsets.dtype == torch.int32 and offsets.is_contiguous(), "int32 offsets"
        assert isinstance(longest, int) and 0.0 <= dropout < 1.0
        sides = (given["window_size_left"], given["window_size_right"])
        left, right = (-1 if side is None else side for side in sides)
        scale = query.shape[-1] ** -0.5 if given["scale"] is None else given["scale"]
        assert left >= -1 and right >= -1 and (not causal or right == 0)
        self.calls.append({"dtype": query.dtype, "dropout": dropout, "width": query.shape[-1], "window": (left, right)})
        with torch._C.DisableTorchFunction():
            edges = _bare(starts).tolist()
            assert edges[0] == 0 and edges[-1] == query.shape[0] and longest == longest_key
            assert longest == max(end - start for start, end in zip(edges[:-1], edges[1:], strict=True))
            out, sums = _written_out(*map(_bare, (query, key, value)), edges, left, right, scale, dropout)
            nothing = torch.empty(0)
            return tuple(each.as_subclass(OnGpu) for each in (out, sums, nothing, nothing, nothing))

    def _bound(self, positional, options):
        """What each argument of this torch's kernel is, by its schema; a value of another kind is an error, as in torch."""
        arguments = self._schema.arguments
        by_place = [one.name for one in arguments if not one.kwarg_only]
        assert len(positional) <= len(by_place), "too many arguments by place"
        given = {**dict(zip(by_place, positional, strict=False)), **options}
        assert len(given) == len(positional) + len(options), "an argument was given twice"
        assert given.keys() <= {one.name for one in arguments}, "an argument that this torch's kernel has not"
        for one in arguments:
            if one.name not in given:
                assert one.has_default_value(), f"{one.name} is missing"
                given[one.name] = one.default_value
            assert isinstance(given[one.name], _KINDS[str(one.type)]), f"{one.name} is no {one.type}"
        return {one.name: given[one.name] for one in arguments}


def _written_out(query, key, value, edges, left, right, scale, dropout):
    groups = query.shape[1] // key.shape[1]
    pieces, sums = [], []
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        q, k, v = query[start:end], *(x[start:end].repeat_interleave(groups, dim=1) for x in (key, value))
        ahead = torch.arange(end - start)[None, :] - torch.arange(end - start)[:, None]
        seen = (ahead <= right if right >= 0 else ahead < end) & (-ahead <= left if left >= 0 else ahead > -end)
        logits = (torch.einsum("qhd,khd->hqk", q.float(), k.float()) * scale).masked_fill(~seen, float("-inf"))
        weights = torch.nn.functional.dropout(logits.softmax(-1), dropout, dropout > 0)
        pieces.append(torch.einsum("hqk,khd->qhd", weights, v.float()).to(query.dtype))
        sums.append(logits.logsumexp(-1))
    return torch.cat(pieces), torch.cat(sums, dim=1)


def _parameter(weight: torch.nn.Parameter) -> torch.nn.Parameter:
    """A leaf of its own on the GPU: torch's constructor would make a view of one."""
    with torch._C.DisableTorchFunction():
        there = weight.data.as_subclass(OnGpu).requires_grad_(weight.requires_grad)
        there._is_param = True
        return there


def _target(function, args, kwargs):
    given = [kwargs.get("device"), *(args[1:] if function is torch.Tensor.to else ())]
    return next((torch.device(each) for each in given if isinstance(each, (str, torch.device))), None)


def _is_gpu(device) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _indexes_by_mask(function, args) -> bool:
    return function is torch.Tensor.__getitem__ and any(
        isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in tree_flatten(args[1:])[0]
    )


def _bare(value):
    return value.as_subclass(torch.Tensor) if isinstance(value, OnGpu) else value


def _gpu(value):
    return value.as_subclass(OnGpu) if isinstance(value, torch.Tensor) else value
