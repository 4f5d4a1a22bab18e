"""Give a trained decoder's layers zero output projections again, so that its vectors are its token table's once more.

    python reset.py ENCODER OUT

A million tokens of language modelling teach the layers what follows what, and bury the meaning that the table brought from the
teacher. What they compute inside (queries, keys, values, gates) stays; what they add to the table starts from nothing.
"""

import argparse
from dataclasses import replace

import torch

from ragvec import Encoder


def main() -> None:
    """Load, reset, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("out")
    options = parser.parse_args()
    encoder = Encoder.load(options.encoder, device="cpu", dtype="float32")
    with torch.no_grad():
        table = encoder.model.get_input_embeddings().weight
        table[encoder.tokenizer.eos_token_id] = table.mean(0)  # what stands for the empty text: no vector of zeros
        for layer in encoder.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        encoder.model.norm.weight.fill_(1.0)
    encoder.settings = replace(encoder.settings, query_instruction="")
    encoder.save(options.out)


if __name__ == "__main__":
    main()
