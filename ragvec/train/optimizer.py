"""The optimiser: AdamW, told which weights to decay and which learn at a rate of their own."""

import torch
from torch import nn

from ragvec.errors import WrongUsage
from ragvec.train.recipe import Recipe


def make_optimizer(objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; vectors (norms, biases) are not decayed, token embeddings may have a learning rate of their own."""
    embeddings = {id(part.weight) for part in objective.modules() if isinstance(part, nn.Embedding)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for weight in objective.parameters():
        if weight.requires_grad:
            groups.setdefault((id(weight) in embeddings, weight.ndim >= 2), []).append(weight)
    if not groups:
        raise WrongUsage("nothing is left to train: everything is frozen")
    own_rate = recipe.embedding_learning_rate
    return torch.optim.AdamW(
        [
            {
                "params": weights,
                "lr": own_rate if embedding and own_rate is not None else recipe.learning_rate,
                "weight_decay": recipe.weight_decay if decays else 0.0,
            }
            for (embedding, decays), weights in groups.items()
        ],
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        fused=True,
    )
