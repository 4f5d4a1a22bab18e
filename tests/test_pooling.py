"""Every pooling against answers computed in the head: hidden[t] = t."""

import pytest
import torch

from ragvec.encoder.pooling import POOLINGS, pool
from ragvec.errors import RagvecError


def states() -> torch.Tensor:
    return torch.arange(7.0)[:, None].expand(7, 2)  # two texts: states 0 1 2 3 | 4 5 6


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [2.0, 5.5]),  # (1+2+3)/3, (5+6)/2
        ("weighted_mean", [14 / 6, 17 / 3]),  # (1·1+2·2+3·3)/6, (1·5+2·6)/3
        ("eos_token", [3.0, 6.0]),
        ("last_token", [3.0, 6.0]),
        ("bos_token", [0.0, 4.0]),
        ("first_token", [1.0, 5.0]),
        ("position_mean", [20 / 9, 28 / 5]),  # (2·1+3·2+4·3)/9, (2·5+3·6)/5
        ("mean_sqrt_len", [6 / 3**0.5, 11 / 2**0.5]),
        ("max", [3.0, 6.0]),
    ],
)
def test_pooling_by_hand(pooling, expected):
    out = pool(states(), [4, 3], [1, 1], pooling)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor(expected)[:, None].expand(2, 2))


@pytest.mark.parametrize(("pooling", "expected"), [("mean", 1.5), ("weighted_mean", 2.0)])
def test_nothing_left_to_pool_takes_the_whole_text(pooling, expected):
    out = pool(states(), [4, 3], [4, 0], pooling)  # (0·1+1·2+2·3+3·4)/10 = 2
    assert out[0, 0].item() == pytest.approx(expected)


def test_half_precision_is_summed_in_float32():
    hidden = torch.full((4096, 1), 1.001, dtype=torch.bfloat16)
    assert pool(hidden, [4096], [0], "mean").item() == pytest.approx(hidden[0].item(), rel=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradient_reaches_only_what_is_pooled(pooling):
    hidden = states().clone().requires_grad_()
    pool(hidden, [4, 3], [1, 1], pooling)[0].sum().backward()
    touched = hidden.grad.abs().sum(1).nonzero().flatten().tolist()
    alone = {"bos_token": [0], "first_token": [1], "last_token": [3], "eos_token": [3], "max": [3]}
    assert touched == alone.get(pooling, [1, 2, 3])


def test_several_poolings_are_joined_in_order():
    out = pool(states(), [4, 3], [1, 1], "max+bos_token+mean")
    torch.testing.assert_close(out[:, ::2], torch.tensor([[3.0, 0.0, 2.0], [6.0, 4.0, 5.5]]))
    with pytest.raises(RagvecError, match="unknown pooling 'median'"):
        pool(states(), [4, 3], [1, 1], "mean+median")


def test_unknown_pooling_names_the_choices():
    with pytest.raises(RagvecError, match="weighted_mean"):
        pool(states(), [4, 3], [0, 0], "median")
