"""LoRA layers and attention learn by fewer passes over memory: the same values and gradients, the same chance of dropping."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from ragvec.encoder.attention_gradient import attend, pays
from ragvec.train.lora import draw_dropped, quicken


class OneLayer(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 40, bias=bias)

    def forward(self, x):
        return self.layer(x)


def adapted(bias=False, dropout=0.0, dtype=torch.float32):
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=["layer"])
    model = get_peft_model(OneLayer(bias).to(dtype), config)
    nn.init.normal_(model.base_model.model.layer.lora_B["default"].weight, std=0.1)
    return model


def learned(model, x, autocast=False):
    """What comes out, and the gradients of the input and of both LoRA weights, in float32."""
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = model(x)
    model.zero_grad()
    out.float().pow(2).sum().backward()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    assert len(weights) == 2
    return [each.float() for each in (out.detach(), x.grad, *(weight.grad for weight in weights))]


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_computes_what_pefts_does(bias):
    model, x = adapted(bias), torch.randn(3, 5, 24)
    theirs = learned(model, x)
    quicken(model)
    for ours, wanted in zip(learned(model, x), theirs, strict=True):
        torch.testing.assert_close(ours, wanted)
    model.eval()
    before = model(x)
    torch.testing.assert_close(model.merge_and_unload()(x), before)


def test_in_half_precision_too():
    model, x = adapted(dtype=torch.bfloat16), torch.randn(64, 24).bfloat16()
    model.base_model.model.layer.cast_input_dtype_enabled = False
    theirs = learned(model, x, autocast=True)
    quicken(model)
    for ours, wanted in zip(learned(model, x, autocast=True), theirs, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


def test_gradients_are_those_of_the_dropped_elements_alone():
    """With everything but the dropped elements known, the layer is a plain product that autograd differentiates itself."""
    model, x = adapted(dropout=0.3), torch.randn(6, 24)
    quicken(model)
    layer = model.base_model.model.layer
    torch.manual_seed(5)
    ours = learned(model, x)
    torch.manual_seed(5)
    stays = torch.ones(x.numel()).index_fill(0, draw_dropped(x.numel(), 0.3), 0).view(x.shape)
    leaf = x.clone().requires_grad_()
    inner = (leaf * stays / 0.7) @ layer.lora_A["default"].weight.T
    out = leaf @ layer.base_layer.weight.T + 3 * inner @ layer.lora_B["default"].weight.T
    model.zero_grad()
    out.pow(2).sum().backward()
    for one, wanted in zip(ours, [out, leaf.grad, *(w.grad for w in model.parameters() if w.requires_grad)], strict=True):
        torch.testing.assert_close(one, wanted)


@pytest.mark.parametrize("chance", [0.05, 0.5])
def test_each_element_is_dropped_with_its_chance_and_by_itself(chance):
    torch.manual_seed(1)
    count, draws = 1000, 400
    dropped = torch.stack([torch.zeros(count).index_fill(0, draw_dropped(count, chance), 1) for _ in range(draws)])
    deviation = (chance * (1 - chance) / (count * draws)) ** 0.5
    assert abs(float(dropped.mean()) - chance) < 4 * deviation
    sums = dropped.sum(1)  # independent elements: a binomial number of them
    assert float(sums.var()) == pytest.approx(count * chance * (1 - chance), rel=0.3)


def test_a_disabled_adapter_and_evaluation_are_pefts():
    model, x = adapted(dropout=0.5), torch.randn(4, 24)
    quicken(model)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), x @ model.base_model.model.layer.base_layer.weight.T)
    model.eval()
    torch.testing.assert_close(model(x), model(x))


@pytest.mark.parametrize(("texts", "length"), [(1, 7), (8, 32), (2, 200)])
def test_attentions_gradient_is_that_of_torchs_kernel(texts, length):
    torch.manual_seed(0)
    states = [torch.randn(texts, 3, length, 16).bfloat16().requires_grad_() for _ in range(3)]
    assert pays(states[0], length, causal=False, dropout=0.0)
    grad = torch.randn(texts, 3, length, 16).bfloat16()
    exact = [whole.detach().float().requires_grad_() for whole in states]
    nn.functional.scaled_dot_product_attention(*exact, scale=0.3).backward(grad.float())
    attend(*states, 0.3).backward(grad)
    for ours, wanted in zip(states, exact, strict=True):
        off = (ours.grad.float() - wanted.grad).norm() / wanted.grad.norm()
        assert off < 0.01


def test_it_is_for_learning_in_half_precision_on_cpus():
    states = torch.randn(1, 1, 4, 8, requires_grad=True)
    assert not pays(states, 4, causal=False, dropout=0.0)
    half = states.detach().bfloat16()
    assert not pays(half, 4, causal=False, dropout=0.0)
    half.requires_grad_()
    assert pays(half, 256, causal=False, dropout=0.0)
    assert not pays(half, 257, causal=False, dropout=0.0)
    assert not pays(half, 4, causal=True, dropout=0.0)
    assert not pays(half, 4, causal=False, dropout=0.1)
