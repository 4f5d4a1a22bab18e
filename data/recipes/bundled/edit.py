"""What the scripts that change a trained encoder share: ENCODER and OUT on the command line, loading, saving."""

import argparse
from collections.abc import Callable

from ragvec import Encoder


def edit_encoder(description: str, change: Callable[[Encoder], None]) -> None:
    """Load the encoder that the command line names, in float32, change it in place, and save it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("out")
    options = parser.parse_args()
    encoder = Encoder.load(options.encoder, device="cpu", dtype="float32")
    change(encoder)
    encoder.save(options.out)
