"""What bulk work asks of the encoder: streamed blocks, a measured token budget, memory that runs out, int8 weights."""

import shutil

import numpy as np
import pytest
import torch

from ragvec import Encoder, RagvecError
from ragvec.encoder import int8
from ragvec.encoder.budget import TokenBudget
from ragvec.encoder.speed import Speed, matmul_peak
from tests.tiny import TEXTS

OUT_OF_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


@pytest.fixture
def encoder(tiny_decoder):
    return Encoder.load(tiny_decoder, dtype="float32", device="cpu")


def test_blocks_give_the_vectors_and_counts_of_single_calls(encoder):
    blocks = [TEXTS, [], TEXTS[::-1] * 20, ["서울은 대한민국의 수도이다." * 100]]
    streamed = list(encoder.encode_blocks(iter(blocks), instruction="find:"))
    for block, encoded in zip(blocks, streamed, strict=True):
        alone = encoder.encode_counted(block, instruction="find:")
        np.testing.assert_allclose(encoded.vectors, alone.vectors, atol=2e-6)
        assert encoded.token_counts.tolist() == alone.token_counts.tolist()
        assert encoded.truncated.tolist() == alone.truncated.tolist()


def test_an_error_while_a_block_is_read_comes_after_the_blocks_before_it(encoder):
    def blocks():
        yield TEXTS
        raise RagvecError("line 7")

    stream = encoder.encode_blocks(blocks(), instruction="")
    assert len(next(stream).vectors) == len(TEXTS)
    with pytest.raises(RagvecError, match="line 7"):
        next(stream)


@pytest.mark.parametrize("raised", [RuntimeError(OUT_OF_MEMORY), torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_batch_that_does_not_fit_the_memory_is_halved_and_the_budget_lowered(encoder, monkeypatch, raised):
    real, sizes = encoder.model.forward, []

    def forward(input_ids, **inputs):
        sizes.append(input_ids.numel())
        if sizes[-1] > 200:
            raise raised
        return real(input_ids, **inputs)

    texts = TEXTS * 20
    expected = encoder.encode_counted(texts, instruction="")
    monkeypatch.setattr(encoder.model, "forward", forward)
    got = list(encoder.encode_blocks([texts, texts], instruction=""))
    for encoded in got:
        np.testing.assert_allclose(encoded.vectors, expected.vectors, atol=2e-6)
    assert encoder.batch_tokens <= 400 and sizes[0] > 400
    second_block = sizes[len(sizes) // 2 :]
    assert sum(size > 200 for size in second_block) < sum(size > 200 for size in sizes), "it learnt"


def test_a_text_that_does_not_fit_alone_names_the_remedy(encoder, monkeypatch):
    def forward(**inputs):
        raise RuntimeError(OUT_OF_MEMORY)

    monkeypatch.setattr(encoder.model, "forward", forward)
    with pytest.raises(RagvecError, match="a text of .* tokens does not fit into the memory: lower `max_length`"):
        encoder.encode_counted(TEXTS, instruction="")


def test_other_errors_are_not_taken_for_a_lack_of_memory(encoder, monkeypatch):
    def forward(**inputs):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(encoder.model, "forward", forward)
    with pytest.raises(RuntimeError, match="device-side assert"):
        encoder.encode_counted(TEXTS, instruction="")


def test_the_fastest_budget_wins_by_the_better_of_two_trials():
    budget = TokenBudget(None, "cpu")
    assert budget.begin(100) is None and budget.tokens == 4096, "a small block says nothing"
    seconds = {2048: [3.0, 2.0], 4096: [9.0, 1.5], 8192: [1.8, 1.7]}
    while budget.is_open:
        candidate = budget.begin(100_000)
        budget.record(candidate, 100_000, seconds[candidate].pop(0))
    assert budget.tokens == 4096 and budget.begin(100_000) is None


def test_a_given_budget_is_kept_and_a_halved_one_measures_no_more():
    assert not TokenBudget(777, "cpu").is_open and TokenBudget(777, "cpu").tokens == 777
    budget = TokenBudget(None, "cuda")
    candidate = budget.begin(10**6)
    budget.halve(16384)
    budget.record(candidate, 10**6, 1.0)
    assert budget.tokens == 8192 and not budget.is_open


def test_int8_weights_keep_the_vectors_and_say_how_well(tiny_decoder, encoder):
    small = Encoder.load(tiny_decoder, dtype="int8", device="cpu")
    mean, least, speedup = small.int8_measured
    assert 0.99 < least <= mean < 1 and speedup > 0
    assert small.dtype == "int8" and small.fingerprint == encoder.fingerprint
    found = (small.encode_documents(TEXTS) * encoder.encode_documents(TEXTS)).sum(axis=1)
    assert found.min() > 0.98
    assert small.describe()["parameters"] == encoder.describe()["parameters"]
    with pytest.raises(RagvecError, match="int8 weights are made while loading and can't be saved"):
        small.save("anywhere")


def test_an_int8_layer_multiplies_like_its_rounded_weights():
    torch.manual_seed(0)
    linear = torch.nn.Linear(256, 48)
    with torch.no_grad():
        linear.weight.copy_(linear.weight.sign() * linear.weight.abs().amax())  # every product is as large as can be
    states = torch.randn(2, 5, 256)
    scales = linear.weight.abs().amax(1, keepdim=True) / int8.largest_weight()
    rounded = (linear.weight / scales).round() * scales
    inputs = states.abs().amax(-1, keepdim=True) / 126
    wanted = (states / inputs).round() * inputs @ rounded.T + linear.bias
    np.testing.assert_allclose(int8.Int8Linear(linear)(states).detach(), wanted.detach(), atol=1e-4)
    assert torch.isfinite(int8.Int8Linear(linear)(torch.zeros(1, 256))).all()


def test_an_int8_layer_with_one_scale_for_all_tokens_adds_its_bias_and_stops_at_the_largest():
    torch.manual_seed(0)
    linear, inputs, states = torch.nn.Linear(256, 48), int8.Inputs(), torch.randn(64, 256)
    inputs.see(states)
    inputs.fix_scale()
    assert inputs.scale == pytest.approx(states.abs().max().item() / 127)
    scales = linear.weight.abs().amax(1, keepdim=True) / int8.largest_weight()
    wider = states * 1.5  # some of it is beyond what was seen
    wanted = (wider / inputs.scale).round().clamp(-127, 127) * inputs.scale @ ((linear.weight / scales).round() * scales).T
    np.testing.assert_allclose(int8.Int8Linear(linear, inputs)(wider).detach(), (wanted + linear.bias).detach(), atol=1e-4)


def test_tokens_of_very_different_sizes_keep_a_scale_each():
    inputs, states = int8.Inputs(), torch.randn(64, 256)
    states[0] *= 100
    inputs.see(states)
    inputs.fix_scale()
    assert inputs.scale is None
    found = int8.Int8Linear(linear := torch.nn.Linear(256, 48), inputs)(states)
    assert torch.nn.functional.cosine_similarity(found, linear(states), dim=-1).min() > 0.999


def test_layers_that_read_the_same_states_round_them_once(tiny_decoder):
    model = Encoder.load(tiny_decoder, dtype="int8", device="cpu").model
    attention, feed_forward = model.layers[0].self_attn, model.layers[0].mlp
    shared = attention.q_proj.inputs
    assert attention.k_proj.inputs is shared and attention.v_proj.inputs is shared
    assert feed_forward.gate_proj.inputs is feed_forward.up_proj.inputs
    others = (attention.o_proj.inputs, feed_forward.up_proj.inputs, feed_forward.down_proj.inputs)
    assert len({shared, *others, model.layers[1].self_attn.q_proj.inputs}) == 5
    states = torch.randn(3, 32)
    assert shared.codes(states) is shared.codes(states)
    before, states = shared.codes(states)[0].clone(), states.clone()
    assert torch.equal(shared.codes(states)[0], before)
    del states
    assert not shared._codes, "codes go with what they were made of"


def test_int8_layers_without_a_fast_kernel_are_refused(monkeypatch):
    monkeypatch.setattr(int8, "speedup", lambda *_: 0.01)
    with pytest.raises(RagvecError, match="int8 layers take 100 times as long as float32's here"):
        int8.check_int8(torch.device("cpu"), torch_compile=False)


def test_int8_weights_need_a_cpu():
    with pytest.raises(RagvecError, match="int8 weights run on the CPU, not on cuda: choose bfloat16"):
        int8.check_int8(torch.device("cuda"), torch_compile=False)


def test_the_work_of_a_text_is_counted_by_the_formula(encoder):
    layer = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 2 * 32  # q and o, k and v, the feed-forward, two norms
    weights = 2 * layer + 32
    counts = np.array([3, 10])
    assert Speed(encoder).flops(counts) == 2 * weights * 13 + 4 * 2 * 32 * (9 + 100)
    assert matmul_peak(torch.float32, 64) > 1e8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_compiled_layers_give_the_same_vectors(tiny_decoder):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    plain = Encoder.load(tiny_decoder, dtype="float32", device="cpu", batch_tokens=64)
    compiled = Encoder.load(tiny_decoder, dtype="float32", device="cpu", batch_tokens=64, torch_compile=True)
    texts = TEXTS * 3
    np.testing.assert_allclose(compiled.encode_documents(texts), plain.encode_documents(texts), atol=1e-5)
    assert compiled.fingerprint == plain.fingerprint, "shards can be gone on with either way"


def test_compiling_without_a_compiler_says_what_to_install(tiny_decoder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RagvecError, match=r"install g\+\+"):
        Encoder.load(tiny_decoder, dtype="float32", device="cpu", torch_compile=True)
    with pytest.raises(RagvecError, match="choose one of the two"):
        Encoder.load(tiny_decoder, dtype="int8", device="cpu", torch_compile=True)
