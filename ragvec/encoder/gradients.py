"""An encoder as a PyTorch user takes it: texts in, a tensor on the device out, which gradients go through."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ragvec.encoder.batching import plan_batches
from ragvec.encoder.int8 import int8_weights
from ragvec.errors import WrongInput

if TYPE_CHECKING:
    from ragvec.encoder.encoder import Encoder


def forward(
    encoder: "Encoder",
    texts: Sequence[str],
    *,
    instruction: str | None = None,
    normalize: bool = True,
    truncate_dim: int | None = None,
) -> Tensor:
    """Vectors (n, d) float32 of texts, a tensor on the encoder's device that gradients go through unless under `torch.no_grad`.

    instruction   read before each text; None = as documents are read. Queries: `encoder.settings.query_instruction`
    truncate_dim  keep the first so many dimensions (Matryoshka), normalised anew
    All texts' states are held until the gradients are taken: pass as many as fit. The model stays in the mode it is in.
    Raises TypeError for a lone string, RagvecError for int8 weights, and for an instruction that leaves no room for text.
    """
    if int8_weights(encoder.model):
        raise WrongInput("no gradient goes through int8 weights: load the encoder without `dtype` int8")
    prompts = encoder.prompts.build(texts, encoder.settings.document_instruction if instruction is None else instruction)
    plan = plan_batches([len(ids) for ids in prompts.ids], encoder.batch_tokens)
    if not plan:
        return torch.empty(0, encoder.width(truncate_dim), device=encoder.device)
    width = encoder.width(truncate_dim)
    vectors = torch.cat([encoder.vectors_of(encoder.lay_out(prompts, rows), width=width, normalize=normalize) for rows in plan])
    order = torch.tensor([row for rows in plan for row in rows]).argsort()
    return vectors[encoder.send(order)]
