"""The GPU's path through attention, without a GPU: what it asks of torch's kernel means what the CPU's path computes."""

import pytest
import torch

from ragvec.encoder import kernel
from ragvec.encoder.attention import Layout, packed_attention
from tests.cuda import SCHEMAS, FakeCuda, OnGpu

LENGTHS = (5, 1, 9, 9, 30)


def states(heads=4, groups=1, width=16, dtype=torch.bfloat16):
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    query = torch.randn(1, heads, tokens, width).to(dtype)
    key, value = torch.randn(2, 1, heads // groups, tokens, width).to(dtype)
    return query, key, value


def both(fake, query, key, value, *, causal=False, module=None, **options):
    """What the CPU's path and the imitated GPU make of the same states."""
    layout = Layout(LENGTHS, torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32))
    module = module or torch.nn.Module()
    module.is_causal = causal
    sinks = options.pop("s_aux", None)
    wanted, _ = packed_attention(module, query, key, value, None, layout=layout, s_aux=sinks, **options)
    with fake:
        there = Layout(LENGTHS, layout.offsets.as_subclass(OnGpu))
        moved = [each.as_subclass(OnGpu) for each in (query, key, value)]
        sinks = None if sinks is None else sinks.as_subclass(OnGpu)
        found, _ = packed_attention(module, *moved, None, layout=there, s_aux=sinks, **options)
        return found.as_subclass(torch.Tensor), wanted


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_the_kernel_is_asked_for_what_the_cpu_computes(monkeypatch, causal, window, groups, version):
    fake = FakeCuda(monkeypatch, version=version)
    found, wanted = both(fake, *states(groups=groups), causal=causal, sliding_window=window, scaling=0.3)
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0.03)
    assert len(fake.calls) == 1 and not fake.waits


@pytest.mark.parametrize("width", [12, 80, 256])
def test_widths_are_filled_up_to_what_the_kernel_takes(monkeypatch, width):
    fake = FakeCuda(monkeypatch)
    found, wanted = both(fake, *states(width=width))
    assert found.shape == wanted.shape and fake.calls[0]["width"] == -(-width // 8) * 8
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    ("capability", "given", "options"),
    [
        ((7, 5), {"dtype": torch.float16}, {}),
        ((9, 0), {"width": 264}, {}),
        ((9, 0), {"dtype": torch.float32}, {}),
        ((9, 0), {}, {"softcap": 20.0}),
    ],
    ids=["before Ampere", "wide heads", "float32", "capped logits"],
)
def test_what_the_kernel_cannot_do_is_computed_text_by_text(monkeypatch, capability, given, options):
    fake = FakeCuda(monkeypatch, capability=capability)
    found, wanted = both(fake, *states(groups=2, **given), **options)
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0.03)
    assert not fake.calls and not fake.waits


@pytest.mark.parametrize(
    ("width", "dropout", "taken"), [(192, 0.1, True), (224, 0.0, False), (232, 0.0, True), (256, 0.1, False)]
)
@pytest.mark.parametrize("capability", [(8, 9), (12, 0), (9, 0)], ids=["L4", "RTX 50", "H100"])
def test_gradients_of_wide_heads_are_left_to_torch_on_small_gpus(monkeypatch, capability, width, dropout, taken):
    """The kernel's backward refuses them there, at the first step of a training; without gradients nothing is amiss."""
    with FakeCuda(monkeypatch, capability=capability):
        query = torch.zeros(1, 2, 4, width, dtype=torch.bfloat16).as_subclass(OnGpu)
        trained = torch.zeros(1, 2, 4, width, dtype=torch.bfloat16, requires_grad=True).as_subclass(OnGpu)
        assert kernel.takes(query, query, dropout)
        assert kernel.takes(trained, trained, dropout) is (taken or capability == (9, 0))


def test_sinks_take_their_share_from_the_kernels_sums(monkeypatch):
    fake = FakeCuda(monkeypatch)
    with torch.no_grad():
        found, wanted = both(fake, *states(), causal=True, sliding_window=8, s_aux=torch.tensor([0.5, -1.0, 2.0, 4.0]))
    torch.testing.assert_close(found, wanted, atol=0.03, rtol=0.03)
    assert len(fake.calls) == 1


def test_states_that_were_widened_are_computed_in_the_precision_of_products(monkeypatch):
    query, key, value = states()
    fake = FakeCuda(monkeypatch)
    found, wanted = both(fake, query.float(), key.float(), value)  # by a norm or rotary embeddings in float32
    assert found.dtype == wanted.dtype == torch.bfloat16 and fake.calls[0]["dtype"] == torch.bfloat16
    with torch.autocast("cuda", torch.float16):
        both(fake, query.float(), key.float(), value.float())
    assert fake.calls[1]["dtype"] == torch.float16, "float32 weights under autocast"


def test_dropout_goes_through_the_kernel(monkeypatch):
    fake = FakeCuda(monkeypatch)
    query, key, _ = states()
    value = torch.ones_like(key)
    found, _ = both(fake, query, key, value, dropout=0.25)
    assert fake.calls[0]["dropout"] == 0.25
    assert 0.9 < found.float().mean().item() < 1.1 and found.float().std().item() > 0.05


def test_the_imitated_schema_is_this_torchs_own():
    version = ".".join(torch.__version__.split(".")[:2])
    if version not in SCHEMAS:
        pytest.skip(f"the imitation knows {', '.join(SCHEMAS)}")
    assert str(torch.ops.aten._flash_attention_forward.default._schema) == SCHEMAS[version]


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (11, {}, "too many"),
        (9, {}, "return_debug_mask is missing"),
        (10, {"num_splits": 1}, "has not"),
        (10, {"scale": "0.5"}, "scale is no"),
    ],
)
def test_the_imitation_takes_what_torchs_kernel_takes(monkeypatch, arguments, options, said):
    fake = FakeCuda(monkeypatch, version="2.11")
    states = torch.zeros(2, 1, 8)
    given = (states, states, states, None, None, 2, 2, 0.0, False, False, 1.0)
    with pytest.raises(AssertionError, match=said):
        fake._bound(given[:arguments], options)
    assert fake._bound(given[:10], {"window_size_left": 3})["window_size_left"] == 3


def test_this_torch_has_the_kernel_and_the_cpu_does_not_use_it():
    assert kernel._is_complete()
    half = torch.zeros(1, 8, dtype=torch.bfloat16)
    assert not kernel.takes(half, half)
