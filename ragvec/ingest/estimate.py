"""How fast an encoder should be on GPUs that are not here: worked out, not measured."""

from typing import TYPE_CHECKING, NamedTuple

from ragvec.errors import WrongUsage

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

LEAST_WEIGHTS = 100_000_000  # in the layers: of smaller encoders tokenizing and launching take the time


class Estimate(NamedTuple):
    """Tokens a second of one GPU, and what that is worked out from."""

    tokens_per_s: float
    told: str


def estimated_on_h100(encoder: "Encoder") -> Estimate:
    """The speed that an H100 would have at the share of its peak that encoding is taken to reach.

    Raises WrongUsage for an encoder too small for that to be what counts.
    """
    from ragvec.encoder.speed import H100_PEAK, REACHED

    weights = sum(weight.numel() for name, weight in encoder.model.named_parameters() if "embed" not in name)
    if weights < LEAST_WEIGHTS:
        raise WrongUsage(
            f"an encoder of {weights:,} parameters is bound by other things than a GPU's speed: leave `gpus` out, "
            "or plan on a machine with one"
        )
    told = f"{REACHED:.0%} of an H100's {H100_PEAK / 1e12:,.0f} TFLOP/s, not measured"
    return Estimate(REACHED * H100_PEAK / (2.0 * weights), told)
