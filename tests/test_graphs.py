"""Small batches by recorded passes: buckets, filling up, equal vectors, and what happens when recording fails.

A plain call stands for the recording, through the same seam, so that all but torch.cuda's own part runs here.
"""

import re

import numpy as np
import pytest
import torch

from ragvec import Encoder
from ragvec.encoder import graphs
from ragvec.encoder.graphs import TEXTS, TOKENS, Bucket, Graphs, choose_bucket, small_batches
from ragvec.serve.service import Service
from tests.tiny import TEXTS as SOME
from tests.tiny import save_tiny_decoder


def plainly(run, pool):
    """Stands for recording: a replay computes the pass over what lies in its inputs."""
    assert pool is None
    return run


@pytest.fixture(scope="module", params=["mean", "weighted_mean", "eos_token", "bos_token"])
def encoder(request, tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder, device="cpu", dtype="float32", pooling=request.param)


def test_the_smallest_bucket_that_fits():
    assert choose_bucket([5]) == Bucket(16, 1)
    assert choose_bucket([16]) == Bucket(16, 1) and choose_bucket([17]) == Bucket(32, 1)
    assert choose_bucket([40, 60]) == Bucket(128, 8)
    assert choose_bucket([2] * 9) == Bucket(32, 32)
    assert choose_bucket([1024]) == Bucket(1024, 1)
    assert choose_bucket([1025]) is None and choose_bucket([1] * 33) is None and choose_bucket([]) is None
    assert choose_bucket([100], most_positions=128) == Bucket(128, 1)
    assert choose_bucket([100], most_positions=127) is None
    assert list(TOKENS) == sorted(TOKENS) and list(TEXTS) == sorted(TEXTS)


def test_vectors_are_those_of_the_plain_path_whatever_filled_the_bucket_before(encoder):
    recorded = Graphs(encoder, plainly)
    batches = [SOME[:1], SOME[1:4], SOME[5:], [SOME[1] * 3], SOME, ["a " * 200], SOME[:1]]
    for instruction in ("", "what is asked:"):
        for texts in batches * 2:
            prompts = encoder.prompts.build(texts, instruction)
            found = recorded.encode_prompts(prompts)
            assert found.dtype == np.float32 and found.shape == (len(texts), encoder.dimension)
            np.testing.assert_allclose(found, encoder.encode_prompts(prompts), atol=2e-6)
    assert recorded.works and 3 <= len(recorded) <= 10


def test_a_full_bucket_needs_no_filling_and_too_much_goes_the_plain_way(encoder):
    recorded = Graphs(encoder, plainly)
    prompts = encoder.prompts.build(["x"], "")
    prompts.ids[0] = (prompts.ids[0] * 16)[:16]
    for _ in range(2):
        np.testing.assert_allclose(recorded.encode_prompts(prompts), encoder.encode_prompts(prompts), atol=2e-6)
    assert recorded._passes[Bucket(16, 1)]._lengths == (16,)
    long = encoder.prompts.build(["word " * 30] * 33, "")
    np.testing.assert_array_equal(recorded.encode_prompts(long), encoder.encode_prompts(long))
    assert len(recorded) == 1 and recorded.encode_prompts(encoder.prompts.build([], "")).shape == (0, encoder.dimension)


def test_what_lies_in_a_bucket(tiny_decoder):
    encoder = Encoder.load(tiny_decoder, device="cpu", dtype="float32")
    made = graphs._Pass(encoder.model, Bucket(16, 8), encoder.device, lambda run: run)
    assert made._offsets.tolist() == [0] + [16] * 9  # as recorded: one text of all tokens
    assert len(made.hidden([[1, 5, 6], [1, 7]])) == 5
    assert made._read.tolist() == [[1, 5, 6, 1, 7] + [1] * 11, [0, 1, 2, 0, 1] + [0] * 11]
    assert made._offsets.tolist() == [0, 3, 5] + [16] * 7 and made._offsets.dtype == torch.int32
    before = made._read.data_ptr(), made._offsets.data_ptr()
    made.hidden([[1] * 2] * 8)
    assert made._offsets.tolist() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 16]
    assert before == (made._read.data_ptr(), made._offsets.data_ptr())  # a recording reads from where it was


def test_buckets_are_recorded_once_and_the_one_not_asked_for_longest_goes(tiny_decoder, monkeypatch):
    encoder = Encoder.load(tiny_decoder, device="cpu", dtype="float32")
    made = []
    recorded = Graphs(encoder, lambda run, pool: made.append(run) or run)
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)

    def encode(tokens: int) -> None:
        prompts = encoder.prompts.build(["x"], "")
        prompts.ids[0] = [1] * tokens
        recorded.encode_prompts(prompts)

    for tokens in (10, 20, 12, 50, 11, 20):  # 20's goes for 50's, 10's was used since; then 50's
        encode(tokens)
    assert len(made) == 4 and list(recorded._passes) == [Bucket(16, 1), Bucket(32, 1)]


def baked_in(run, pool):
    """What a recording does of a pass that reads its lengths on the way: it gives the same states for ever."""
    states = run().clone()
    return lambda: states


def refused(run, pool):
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize(("capture", "reason"), [
    (baked_in, r"a recorded pass finds other vectors \(cosine -?\d\.\d{4}\)"),
    (refused, r"a pass can't be recorded \(CUDA error: operation not permitted when stream is capturing\)"),
])  # fmt: skip
def test_a_pass_that_cannot_be_recorded_is_computed_plainly(capture, reason, tiny_decoder, caplog):
    encoder = Encoder.load(tiny_decoder, device="cpu", dtype="float32")
    recorded = Graphs(encoder, capture)
    prompts = encoder.prompts.build(SOME[:2], "")
    for _ in range(3):
        np.testing.assert_array_equal(recorded.encode_prompts(prompts), encoder.encode_prompts(prompts))
    assert not recorded.works and len(recorded) == 0
    [record] = caplog.records
    assert re.fullmatch(f"small batches are computed without CUDA graphs: {reason}", record.getMessage())


def test_a_pass_whose_attention_reads_lengths_is_not_recorded(tiny_decoder):
    """A recording would keep the lengths of its first batch: only one call for all texts may be recorded."""
    encoder = Encoder.load(tiny_decoder, device="cpu", dtype="float32")
    made = graphs._Pass(encoder.model, Bucket(16, 1), encoder.device, lambda run: run)
    layout = graphs._OneCall(made._lengths, made._offsets)
    assert layout.longest == 16
    inputs = {"input_ids": made._read[:1], "position_ids": made._read[1:], "use_cache": False}
    with pytest.raises(RuntimeError, match="not one call"):
        encoder.model(**inputs, layout=layout)


def test_only_packed_batches_on_a_gpu_are_recorded(tiny_decoder, tmp_path, monkeypatch):
    plain = Encoder.load(tiny_decoder, device="cpu")
    assert small_batches(plain) == plain.encode_prompts
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(plain, "device", torch.device("cuda"))
    assert isinstance(small_batches(plain).__self__, Graphs)
    padded = Encoder.load(save_tiny_decoder(tmp_path, "bloom", n_head=4), device="cpu")
    monkeypatch.setattr(padded, "device", torch.device("cuda"))
    assert not padded.settings.packed and small_batches(padded) == padded.encode_prompts


def test_the_server_computes_by_what_small_batches_gives(tiny_decoder, monkeypatch):
    encoder = Encoder.load(tiny_decoder, device="cpu", dtype="float32")
    recorded = Graphs(encoder, plainly)
    monkeypatch.setattr(graphs, "small_batches", lambda _: recorded.encode_prompts)
    with Service(encoder) as service:
        found = service.text_encoder().encode_queries(SOME[:1])
    assert len(recorded) == 1
    np.testing.assert_allclose(found, encoder.encode_queries(SOME[:1]), atol=2e-6)
