"""The GPU's path through attention, without a GPU: what it asks of torch's kernel means what the CPU's path computes."""

import inspect

import pytest
import torch
from torch.nn.attention import varlen

from ragvec.encoder import attention
from ragvec.encoder.attention import Layout, packed_attention

LENGTHS = (5, 1, 9, 9, 30)
SIGNATURE = inspect.signature(varlen.varlen_attn)


def documented(*args, **options):
    """What torch documents of varlen_attn, written out; arguments that the real one lacks are an error."""
    given = SIGNATURE.bind(*args, **options)
    given.apply_defaults()
    query, key, value = (given.arguments[name] for name in ("query", "key", "value"))
    groups = query.shape[1] // key.shape[1]
    assert groups == 1 or given.arguments["enable_gqa"]
    left, right = given.arguments["window_size"]
    offsets = given.arguments["cu_seq_q"]
    assert offsets.dtype == torch.int32 and torch.equal(offsets, given.arguments["cu_seq_k"])
    assert given.arguments["max_q"] == given.arguments["max_k"] == int(offsets.diff().max())
    pieces = []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        q, k, v = query[start:end], *(x[start:end].repeat_interleave(groups, dim=1) for x in (key, value))
        ahead = torch.arange(end - start)[None, :] - torch.arange(end - start)[:, None]
        seen = (ahead <= right if right >= 0 else ahead < end) & (-ahead <= left if left >= 0 else ahead > -end)
        logits = torch.einsum("qhd,khd->hqk", q, k) * given.arguments["scale"]
        pieces.append(torch.einsum("hqk,khd->qhd", logits.masked_fill(~seen, float("-inf")).softmax(-1), v))
    return torch.cat(pieces)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_the_kernel_is_asked_for_what_the_cpu_computes(monkeypatch, causal, window, groups):
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    query = torch.randn(1, 4, tokens, 8)
    key, value = torch.randn(2, 1, 4 // groups, tokens, 8)
    layout = Layout(LENGTHS, torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32))
    module = torch.nn.Module()
    module.is_causal = causal
    options = {"scaling": 0.3, "sliding_window": window, "layout": layout}
    wanted, _ = packed_attention(module, query, key, value, None, **options)
    monkeypatch.setattr(attention, "_has_varlen_kernel", lambda query: True)
    monkeypatch.setattr(varlen, "varlen_attn", documented)
    found, _ = packed_attention(module, query, key, value, None, **options)
    torch.testing.assert_close(found, wanted)


def test_this_torch_has_the_kernel_and_the_cpu_does_not_use_it():
    assert attention._varlen_is_complete()
    assert not attention._has_varlen_kernel(torch.zeros(1, dtype=torch.bfloat16))
