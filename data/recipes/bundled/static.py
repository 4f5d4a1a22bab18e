"""Leave an encoder its token table alone: what the layers are worth is measured against this, trained in the same way.

    python static.py ENCODER OUT

Without layers no token sees another, so that OUT counts as causal; the mean of its tokens is taken as before.
"""

from dataclasses import replace

from edit import edit_encoder

from ragvec import Encoder


def drop_layers(encoder: Encoder) -> None:
    """Take the layers out."""
    encoder.model.layers = encoder.model.layers[:0]
    encoder.model.config.num_hidden_layers = 0
    encoder.settings = replace(encoder.settings, attention="causal")


if __name__ == "__main__":
    edit_encoder(__doc__, drop_layers)
