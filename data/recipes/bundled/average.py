"""Weights between those of two encoders of the same shape: FIRST + SHARE · (SECOND − SINCE); SINCE is FIRST if not named.

    python average.py FIRST SECOND OUT --share 0.7 [--since START]

Contrastive training on a few thousand queries takes something from what the encoder knew before; a part of the way back it has
most of both. With SINCE, what SECOND has learnt since that start is added to FIRST, which has learnt something else since.
Source: Wortsman et al., 2022 (WiSE-FT); Ilharco et al., 2023 (task arithmetic).
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
    parser.add_argument("--since")
    options = parser.parse_args()
    first, second = (Encoder.load(name, device="cpu", dtype="float32") for name in (options.first, options.second))
    since = Encoder.load(options.since, device="cpu", dtype="float32") if options.since else first
    with torch.no_grad():
        for name, weight in second.model.named_parameters():
            weight.sub_(since.model.get_parameter(name)).mul_(options.share).add_(first.model.get_parameter(name))
    second.model.to(torch.bfloat16)
    second.save(options.out)


if __name__ == "__main__":
    main()
