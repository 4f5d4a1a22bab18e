"""Linear layers behind the pooling, as sentence-transformers' Dense modules have them (EmbeddingGemma's, for one)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ragvec.encoder.door import field, foreign, header, read_object
from ragvec.errors import Damaged, WrongInput
from ragvec.files import write_json

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# torch's own classes, under the names by which they are stored
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}
_POOLED = "sentence_embedding"


class Projection(nn.Module):
    """One layer: activation(weight · vector + bias), and the vector itself added where it is residual."""

    def __init__(self, linear: nn.Linear, activation: nn.Module, residual: nn.Module | None) -> None:
        super().__init__()
        self.linear, self.activation, self.residual = linear, activation, residual

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (n, out) float32 of vectors (n, in)."""
        out: Tensor = self.activation(self.linear(vectors))
        return out if self.residual is None else out + self.residual(vectors)


class Projections(nn.ModuleList):
    """The layers in order; none changes nothing."""

    def __iter__(self) -> Iterator[Projection]:
        return cast(Iterator[Projection], super().__iter__())

    def of(self, vectors: Tensor) -> Tensor:
        """Vectors (n, out) float32 of pooled ones (n, in), outside autocast: vectors stay float32."""
        if not len(self):
            return vectors
        with torch.autocast(vectors.device.type, enabled=False):
            for layer in self:
                vectors = layer(vectors)
            return vectors

    def width(self, pooled: int) -> int:
        """The dimension of what comes out for pooled vectors of this one. Raises Damaged where they don't fit each other."""
        for layer in self:
            if layer.linear.in_features != pooled:
                raise Damaged(f"a Dense module takes {layer.linear.in_features} dimensions and is given {pooled}")
            pooled = layer.linear.out_features
        return pooled


def load_projections(folders: Sequence[Path]) -> Projections:
    """The layers in these folders, float32 on the CPU. Raises RagvecError for what can't be read or isn't known."""
    return Projections(map(_load, folders)).eval().requires_grad_(False)


def save_projections(projections: Projections, folder: Path, names: Sequence[str]) -> None:
    """Write each layer into a folder of its name within an encoder's folder."""
    for name, layer in zip(names, projections, strict=True):
        (folder / name).mkdir()
        linear, residual = layer.linear, layer.residual
        write_json(folder / name / _CONFIG, {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": f"{type(layer.activation).__module__}.{type(layer.activation).__name__}",
            **({} if residual is None else {"use_residual": True}),
        })  # fmt: skip
        weights = {part: weight.detach().float().cpu().contiguous() for part, weight in layer.state_dict().items()}
        save_file(weights, folder / name / _WEIGHTS, metadata={"format": "pt"})


def _load(folder: Path) -> Projection:
    path = folder / _CONFIG
    config = read_object(path)
    for name in ("module_input_name", "module_output_name"):
        if (place := field(path, config, name, str) or _POOLED) != _POOLED:
            raise WrongInput(f"{path}: {name} is {place!r}: only a Dense module on the pooled vector loads here")
    named = (field(path, config, "activation_function", str) or "torch.nn.modules.activation.Tanh").split(".")
    if named[0] != "torch" or named[-1] not in _ACTIVATIONS:
        raise WrongInput(f"{path}: the activation {'.'.join(named)!r} is not one of {', '.join(_ACTIVATIONS)}")
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise WrongInput(f"{folder} holds no {_WEIGHTS} (pickled weights are not loaded): save the model as safetensors")
    shapes = {name: shape for name, (shape, _) in header(weights).items()}
    shape = shapes.get("linear.weight", [])
    if len(shape) != 2 or any(field(path, config, name, int) not in (None, size) for name, size in
                              (("out_features", shape[0]), ("in_features", shape[1]))):  # fmt: skip
        raise Damaged(f"{weights}: linear.weight has shape {shape}, which is not what {path} says: download it again")
    linear = nn.Linear(shape[1], shape[0], bias="linear.bias" in shapes)
    residual: nn.Module | None = None
    if field(path, config, "use_residual", bool):
        residual = nn.Linear(shape[1], shape[0], bias=False) if "residual.weight" in shapes else nn.Identity()
    layer = Projection(linear, _ACTIVATIONS[named[-1]](), residual)
    with foreign(f"{weights} does not fit"):
        layer.load_state_dict({name: weight.float() for name, weight in load_file(weights).items()})
    return layer
