"""Weights between those of two encoders of the same shape: (1 − SHARE) of the first, SHARE of the second.

    python average.py FIRST SECOND OUT --share 0.7

Contrastive training on a few thousand queries takes something from what the encoder knew before; a part of the way back it has
most of both.
Source: Wortsman et al., 2022 (WiSE-FT).
"""

import argparse

import torch

from ragvec import Encoder


def main() -> None:
    """Load both, average, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("out")
    parser.add_argument("--share", type=float, required=True)
    options = parser.parse_args()
    first, second = (Encoder.load(name, device="cpu", dtype="float32") for name in (options.first, options.second))
    with torch.no_grad():
        for name, weight in second.model.named_parameters():
            weight.lerp_(first.model.get_parameter(name), 1 - options.share)
    second.model.to(torch.bfloat16)
    second.save(options.out)


if __name__ == "__main__":
    main()
