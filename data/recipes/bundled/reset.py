"""Give a trained decoder's layers zero output projections again, so that its vectors are its token table's once more.

    python reset.py ENCODER OUT

A million tokens of language modelling teach the layers what follows what, and bury the meaning that the table brought from the
teacher. What they compute inside (queries, keys, values, gates) stays; what they add to the table starts from nothing.
"""

from dataclasses import replace

import torch
from edit import edit_encoder

from ragvec import Encoder


def reset(encoder: Encoder) -> None:
    """Zero what the layers add, and give the empty text a vector."""
    with torch.no_grad():
        table = encoder.model.get_input_embeddings().weight
        table[encoder.tokenizer.eos_token_id] = table.mean(0)  # what stands for the empty text: no vector of zeros
        for layer in encoder.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        encoder.model.norm.weight.fill_(1.0)
    encoder.settings = replace(encoder.settings, query_instruction="")


if __name__ == "__main__":
    edit_encoder(__doc__, reset)
