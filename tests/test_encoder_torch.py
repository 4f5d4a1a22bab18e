"""The encoder in a PyTorch user's hands: tensors with gradients, and adapters that are switched while it runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ragvec import Encoder
from ragvec.errors import NotFound, WrongInput
from tests.layouts import save_layout
from tests.tiny import TEXTS


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder, device="cpu", dtype="float32")


def test_forward_gives_the_vectors_of_encode(encoder):
    expected = encoder.encode_documents(TEXTS)
    for batch_tokens in (None, 8):
        small = Encoder.load(encoder.source, device="cpu", dtype="float32", batch_tokens=batch_tokens)
        vectors = small(TEXTS)
        assert vectors.requires_grad and vectors.dtype is torch.float32 and vectors.device == small.device
        np.testing.assert_allclose(vectors.detach().numpy(), expected, atol=1e-5)
    asked = encoder.forward(TEXTS, instruction=encoder.settings.query_instruction, normalize=False, truncate_dim=8)
    queries = encoder.encode_queries(TEXTS, normalize=False, truncate_dim=8)
    np.testing.assert_allclose(asked.detach().numpy(), queries, atol=1e-5)
    with torch.no_grad():
        assert not encoder(TEXTS).requires_grad
    assert encoder([]).shape == (0, encoder.dimension)


@pytest.mark.parametrize("name", ["embeddinggemma", "two-poolings", "nomic"])
def test_forward_gives_the_vectors_of_other_layouts(name, tmp_path):
    encoder = Encoder.load(save_layout(name, tmp_path / name), device="cpu", dtype="float32")
    np.testing.assert_allclose(encoder(TEXTS).detach().numpy(), encoder.encode_documents(TEXTS), atol=1e-5)


def test_the_gradient_is_what_a_small_step_shows(encoder):
    """Along its own direction the loss changes by the gradient's square times the step."""
    weight = encoder.model.get_input_embeddings().weight
    target = torch.linspace(-1, 1, encoder.dimension)
    (encoder(TEXTS) @ target).sum().backward()
    gradient = weight.grad.clone()
    weight.grad = None
    before = weight.detach().clone()
    sides = []
    with torch.no_grad():
        for step in (1e-3, -1e-3):
            weight.copy_(before + step * gradient / gradient.norm())
            sides.append(float((encoder(TEXTS) @ target).sum()))
        weight.copy_(before)
    assert (sides[0] - sides[1]) / 2e-3 == pytest.approx(float(gradient.norm()), rel=0.02)


def test_what_forward_refuses(encoder):
    with pytest.raises(TypeError, match="pass \\[text\\]"):
        encoder("fox")
    with pytest.raises(WrongInput, match="no gradient goes through int8 weights"):
        Encoder.load(encoder.source, device="cpu", dtype="int8")(TEXTS)


@pytest.fixture(scope="module")
def adapters(tiny_decoder: Path, tmp_path_factory) -> dict[str, Path]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    made = {}
    for seed, name in enumerate(("law", "code")):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        adapted = get_peft_model(AutoModel.from_pretrained(tiny_decoder), config)
        made[name] = tmp_path_factory.mktemp("adapters") / name
        adapted.peft_config["default"].base_model_name_or_path = str(tiny_decoder)
        adapted.save_pretrained(made[name])
    return made


def test_adapters_are_switched(tiny_decoder, adapters):
    options = dict(device="cpu", dtype="float32")
    expected = {name: Encoder.load(folder, **options).encode_documents(TEXTS) for name, folder in adapters.items()}
    encoder = Encoder.load(tiny_decoder, **options)
    bare, told = encoder.encode_documents(TEXTS), {None: encoder.fingerprint}
    for name, folder in adapters.items():
        encoder.load_adapter(folder, name)
        np.testing.assert_allclose(encoder.encode_documents(TEXTS), expected[name], atol=1e-5)
    for name in ("law", None, "code", "law", None):
        encoder.set_adapter(name)
        np.testing.assert_allclose(encoder.encode_documents(TEXTS), bare if name is None else expected[name], atol=1e-5)
        assert told.setdefault(name, encoder.fingerprint) == encoder.fingerprint
    assert len(set(told.values())) == 3
    assert np.abs(expected["law"] - expected["code"]).max() > 0.01
    with pytest.raises(NotFound, match=r"no adapter is called 'x' \(there are law, code\)"):
        encoder.set_adapter("x")
    with pytest.raises(WrongInput, match="can't be called 'law'"):
        encoder.load_adapter(adapters["code"], "law")
    with pytest.raises(NotFound, match="holds no adapter_config.json"):
        encoder.load_adapter(tiny_decoder, "base")


def test_an_adapter_that_stayed_apart_is_one_of_them(tiny_decoder, adapters):
    encoder = Encoder.load(adapters["law"], device="cpu", dtype="float32", merge=False)
    law, name = encoder.encode_documents(TEXTS), encoder.fingerprint
    encoder.set_adapter(None)
    bare = Encoder.load(tiny_decoder, device="cpu", dtype="float32").encode_documents(TEXTS)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), bare, atol=1e-5)
    assert encoder.fingerprint != name
    encoder.set_adapter("default")
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), law, atol=1e-5)
    assert encoder.fingerprint == name
