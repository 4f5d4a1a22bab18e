"""The encoder on an imitated GPU: nothing waits for it, and the vectors are the CPU's; what depends on the card."""

import numpy as np
import pytest
import torch

from ragvec import Encoder
from ragvec.encoder import ready, speed
from ragvec.encoder.device import Cuda, device_of
from ragvec.encoder.encoder import Encoder as Plain
from ragvec.encoder.probe import probe
from ragvec.encoder.speed import compiling_repays, data_sheet_peak
from ragvec.encoder.weights import choose_dtype, load_model
from tests.cuda import GPU, FakeCuda
from tests.tiny import TEXTS, save_tiny_decoder


@pytest.fixture
def on_cpu(tiny_decoder):
    return Encoder.load(tiny_decoder, dtype="bfloat16", device="cpu", batch_tokens=64)


def on_gpu(fake: FakeCuda, encoder: Encoder, monkeypatch) -> Encoder:
    """The encoder, moved in place."""
    monkeypatch.setattr("ragvec.encoder.encoder.device_memory", lambda device: 80 * 10**9)
    fake.to_gpu(encoder.model)
    return Plain(encoder.model, encoder.tokenizer, encoder.settings, source="", fingerprint="", batch_tokens=64)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean", "eos_token", "bos_token"])
def test_blocks_are_encoded_without_waiting_in_between(on_cpu, monkeypatch, pooling):
    on_cpu.settings = on_cpu.settings.override(pooling=pooling)
    blocks = [TEXTS, TEXTS[::-1] * 3, []]
    wanted = [each.vectors for each in on_cpu.encode_blocks(iter(blocks), instruction="find:")]
    with FakeCuda(monkeypatch) as fake:
        encoder = on_gpu(fake, on_cpu, monkeypatch)
        assert encoder.device == GPU and isinstance(encoder._device, Cuda)
        prompts = [encoder.prompts.build(block, "find:") for block in blocks]
        pipeline = encoder._pipeline(encoder.dimension, normalize=True)
        batches = pipeline._batches(prompts)  # in this thread: the imitation is a mode of its own thread
        found = [vectors for _, vectors in pipeline._taken_in(batches, ready=lambda: True)]
        assert fake.waits == []
        assert len(fake.calls) >= 2 * encoder.model.config.num_hidden_layers
        assert {call["dtype"] for call in fake.calls} == {torch.bfloat16}
    for vectors, cpu in zip(found, wanted, strict=True):
        np.testing.assert_allclose(vectors, cpu, atol=0.03)


def test_single_calls_take_the_same_way(on_cpu, monkeypatch):
    wanted = on_cpu.encode_documents(TEXTS)
    with FakeCuda(monkeypatch) as fake:
        encoder = on_gpu(fake, on_cpu, monkeypatch)
        np.testing.assert_allclose(encoder.encode_documents(TEXTS), wanted, atol=0.03)
        assert fake.waits == [] and fake.calls


def test_before_ampere_the_kernel_is_not_asked(on_cpu, monkeypatch):
    wanted = on_cpu.encode_documents(TEXTS)
    with FakeCuda(monkeypatch, capability=(7, 5)) as fake:
        np.testing.assert_allclose(on_gpu(fake, on_cpu, monkeypatch).encode_documents(TEXTS), wanted, atol=0.03)
        assert not fake.calls and fake.waits == []


def test_pageable_memory_and_masks_are_seen_to_wait(monkeypatch):
    """The imitation itself: it notices what the encoder must not do."""
    with FakeCuda(monkeypatch) as fake:
        device = device_of(GPU)
        there = device.send(torch.arange(4.0))
        assert there.is_cuda and there.device == GPU and not fake.waits
        assert device.fetch(there * 2).wait().tolist() == [0, 2, 4, 6] and not fake.waits
        torch.arange(4).to("cuda", non_blocking=True)
        there.cpu()
        there[there > 1]
        assert fake.waits == ["to the GPU", "to the host", "__getitem__"]
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(4)
        begin, end = device.mark(), device.mark()
        assert device.seconds(begin, end) == 0.001


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 NVL", 835), ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835), ("NVIDIA GH200 480GB", 989), ("NVIDIA B200", 2250), ("NVIDIA GB200", 2500),
        ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A100-PCIE-40GB", 312), ("NVIDIA A100 80GB PCIe", 312), ("NVIDIA A10", 125),
        ("NVIDIA A10G", 70), ("NVIDIA A40", 150), ("NVIDIA L4", 121), ("NVIDIA L40", 181), ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 5090", 209), ("NVIDIA GeForce RTX 4090", 165), ("NVIDIA GeForce RTX 3090", 71), ("Tesla T4", 65),
        ("Tesla V100-SXM2-16GB", 125), ("Tesla V100-PCIE-16GB", 112), ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 D", None), ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None), ("NVIDIA A1000", None),
    ],
)  # fmt: skip
def test_a_cards_name_finds_its_own_data_sheet(monkeypatch, name, tera):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert data_sheet_peak(GPU, torch.bfloat16) == (tera and tera * 1e12)
    assert data_sheet_peak(GPU, torch.float32) is None and data_sheet_peak(torch.device("cpu"), torch.bfloat16) is None


def test_the_dtype_is_that_of_the_card_that_computes(monkeypatch):
    class Current:
        index = 0

        def __init__(self, device):
            self.device = device

        def __enter__(self):
            Current.index = self.device.index

        def __exit__(self, *_):
            Current.index = 0

    monkeypatch.setattr(torch.cuda, "device", Current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: Current.index == 1)
    assert choose_dtype(None, torch.device("cuda:1")) is torch.bfloat16
    assert choose_dtype(None, torch.device("cuda:0")) is torch.float16


class Large:
    """An encoder of so many parameters on a GPU."""

    compile_refusal = ""

    def __init__(self, parameters: int, device: torch.device = GPU) -> None:
        self.device = device
        self.model = torch.nn.Module()
        self.model.weight = torch.nn.Parameter(torch.empty(parameters, device="meta", dtype=torch.bfloat16))
        self.model.dtype = torch.bfloat16


def test_compiling_is_worth_it_for_large_encoders_and_large_corpora(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    enough = speed.COMPILE_SECONDS / speed.COMPILE_SAVES * 0.5 * 989e12 / (2 * 8e9)  # 28 million tokens at 8B
    eight, small = Large(8 * 10**9), Large(10**8)
    assert 27e6 < enough < 29e6
    assert compiling_repays(eight, enough * 1.01) and not compiling_repays(eight, enough * 0.99)
    assert not compiling_repays(small, 1e15) and not compiling_repays(Large(8 * 10**9, torch.device("cpu")), 1e15)
    eight.compile_refusal = "no compiler"
    assert not compiling_repays(eight, 1e15)


def test_compiling_for_a_gpu_is_refused_without_its_compilers(monkeypatch, on_cpu):
    with FakeCuda(monkeypatch) as fake:
        fake.to_gpu(on_cpu.model)
        monkeypatch.setattr(ready, "find_spec", lambda name: None)
        assert "pip install triton" in ready.compile_refusal(on_cpu.model, packed=True)
        monkeypatch.setattr(ready, "find_spec", lambda name: "there")
        monkeypatch.setattr(ready.shutil, "which", lambda name: None)
        assert "install gcc" in ready.compile_refusal(on_cpu.model, packed=True)
        monkeypatch.setattr(ready.shutil, "which", lambda name: "/usr/bin/" + name)
        assert ready.compile_refusal(on_cpu.model, packed=True) == ""


def test_capped_logits_are_compared_with_attention_that_caps_them(tmp_path):
    """transformers up to 5.17 loads Gemma 2 with SDPA, which leaves the cap out: packed batches were taken for wrong."""
    folder = save_tiny_decoder(
        tmp_path, "gemma2", head_dim=8, sliding_window=4, attn_logit_softcapping=2.0, query_pre_attn_scalar=1
    )
    model = load_model(folder, [], dtype=torch.float32, merge=True).eval()
    type(model)._supports_sdpa, before = True, type(model)._supports_sdpa
    try:
        model.set_attn_implementation("sdpa")
        result = probe(model, 512, torch.device("cpu"))
    finally:
        type(model)._supports_sdpa = before
    assert result.packs and result.packing_error < 1e-5


def test_whoever_calls_the_tokenizer_changes_no_vector(on_cpu):
    """Padding, a limit and split special tokens stay behind in the tokenizer that both share."""
    texts = [*TEXTS, "</s> is a special token"]
    wanted = on_cpu.encode_documents(texts)
    count = on_cpu.count_tokens(texts)
    on_cpu.tokenizer.pad_token = "</s>"
    on_cpu.tokenizer(texts, padding="max_length", truncation=True, max_length=12, split_special_tokens=True)
    np.testing.assert_array_equal(on_cpu.encode_documents(texts), wanted)
    assert on_cpu.count_tokens(texts) == count
    on_cpu.tokenizer(texts, padding="max_length", truncation=True, max_length=12)
    assert [len(tokens.vectors) for tokens in on_cpu.encode_tokens(texts, whole=True)] == [n + 1 for n in count]
