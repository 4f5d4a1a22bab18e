"""Leave an encoder its token table alone: what the layers are worth is measured against this, trained in the same way.

    python static.py ENCODER OUT

Without layers no token sees another, so that OUT counts as causal; the mean of its tokens is taken as before.
"""

import argparse
from dataclasses import replace

from ragvec import Encoder


def main() -> None:
    """Load, take the layers out, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("out")
    options = parser.parse_args()
    encoder = Encoder.load(options.encoder, device="cpu", dtype="float32")
    encoder.model.layers = encoder.model.layers[:0]
    encoder.model.config.num_hidden_layers = 0
    encoder.settings = replace(encoder.settings, attention="causal")
    encoder.save(options.out)


if __name__ == "__main__":
    main()
