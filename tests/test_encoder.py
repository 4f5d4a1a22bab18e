"""The encoder on a tiny random decoder: what a vector may depend on, and what happens to unusual input."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from ragvec import Encoder, RagvecError
from ragvec.encoder import EncoderSettings, convert, forward, read_settings
from ragvec.encoder.attention import packed_inputs
from ragvec.encoder.fingerprint import fingerprint
from ragvec.encoder.forward import row_length
from ragvec.encoder.probe import probe
from tests.tiny import TEXTS, save_tiny_decoder


@pytest.fixture(scope="module")
def encoder(tiny_decoder):
    return Encoder.load(tiny_decoder, dtype="float32", device="cpu")


def test_vectors_are_float32_of_length_one(encoder):
    vectors = encoder.encode_documents(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


def test_a_vector_does_not_depend_on_its_neighbours(encoder, tiny_decoder):
    together = encoder.encode_documents(TEXTS)
    alone = np.concatenate([encoder.encode_documents([text]) for text in TEXTS])
    backwards = encoder.encode_documents(TEXTS[::-1])[::-1]
    small = Encoder.load(tiny_decoder, dtype="float32", device="cpu", batch_tokens=8).encode_documents(TEXTS)
    for other in (alone, backwards, small):
        np.testing.assert_allclose(together, other, atol=2e-6)


def test_packed_equals_padded(encoder, tiny_decoder):
    padded = Encoder.load(tiny_decoder, dtype="float32", device="cpu")
    padded.model.set_attn_implementation("sdpa")
    padded.settings = padded.settings.override(packed=False)
    np.testing.assert_allclose(padded.encode_documents(TEXTS), encoder.encode_documents(TEXTS), atol=2e-6)


def test_attention_is_bidirectional_unless_asked(tiny_decoder):
    first = {"pooling": "bos_token", "dtype": "float32", "device": "cpu"}
    for attention, moves in (("bidirectional", True), ("causal", False)):
        encoder = Encoder.load(tiny_decoder, attention=attention, **first)
        a, b = encoder.encode_documents(["fox", "dog"])
        assert (np.abs(a - b).max() > 1e-3) == moves


def test_instruction_reaches_queries_only(encoder):
    queries = encoder.encode_queries(["fox"])
    documents = encoder.encode_documents(["fox"])
    assert np.abs(queries - documents).max() > 1e-3
    np.testing.assert_allclose(encoder.encode_queries(["fox"], instruction=""), documents, atol=1e-6)


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode_documents([]).shape == (0, encoder.dimension)
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)
    assert encoder.encode_tokens([]) == []


def test_a_lone_string_names_the_fix(encoder):
    for encode in (encoder.encode_queries, encoder.encode_documents, encoder.encode_tokens):
        with pytest.raises(TypeError, match=r"pass \[text\]"):
            encode("fox")


def test_the_empty_text_has_a_defined_vector(encoder):
    alone, among = encoder.encode_documents([""]), encoder.encode_documents(["fox", "", TEXTS[1]])[1:2]
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(alone, among, atol=2e-6)


def test_counts_and_truncation(encoder):
    encoded = encoder.encode_counted(["fox", "서울은 대한민국의 수도이다." * 100], instruction="")
    assert encoded.truncated.tolist() == [False, True]
    assert encoded.token_counts[1] <= encoder.settings.max_length
    assert np.isfinite(encoded.vectors).all()


def test_truncate_dim_keeps_the_first_dimensions(encoder):
    full = encoder.encode_documents(TEXTS, normalize=False)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS, normalize=False, truncate_dim=8), full[:, :8], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_documents(TEXTS, truncate_dim=8), axis=1), 1, rtol=1e-6)
    with pytest.raises(RagvecError, match="outside 1 … 32"):
        encoder.encode_documents(TEXTS, truncate_dim=33)


def test_token_vectors_average_to_the_text_vector(encoder):
    texts = ["The quick brown fox", "서울은 fox", ""]
    for text, tokens, mean in zip(texts, encoder.encode_tokens(texts, normalize=False),
                                  encoder.encode_documents(texts, normalize=False), strict=True):  # fmt: skip
        covered = {place for start, end in tokens.offsets for place in range(start, end)}
        assert covered == set(range(len(text))), "every character belongs to a token (one of several bytes to several)"
        assert len(tokens.vectors) == len(tokens.offsets) == len(tokens.tokens)
        if text:
            np.testing.assert_allclose(tokens.vectors.mean(0), mean, atol=1e-5)


def test_packed_rows_come_in_few_lengths_and_are_hardly_longer(tiny_decoder, monkeypatch):
    lengths = [row_length(tokens) for tokens in range(1, 8193)]
    assert len(set(lengths)) < 70 and row_length(4096) == 4096
    assert all(tokens <= length <= max(8, tokens * 9 / 8) for tokens, length in enumerate(lengths, 1) if tokens >= 64)
    rows = []
    monkeypatch.setattr(forward, "packed_inputs", lambda ids: rows.append(ids) or packed_inputs(ids))
    encoder = Encoder.load(tiny_decoder, dtype="bfloat16", device="cpu")
    texts = ["a" * length for length in range(1, 20)]
    alone = [encoder.encode_documents([text])[0] for text in texts]
    assert {sum(map(len, row)) for row in rows} <= {8, 16, 24, 32}
    np.testing.assert_allclose(encoder.encode_documents(texts), alone, atol=0.02)
    rows.clear()
    Encoder.load(tiny_decoder, dtype="float32", device="cpu").encode_documents(["abc"])
    assert sum(map(len, rows[-1])) == 4, "nothing is compiled for float32"


def test_bfloat16_agrees_with_float32(tiny_decoder, encoder):
    half = Encoder.load(tiny_decoder, dtype="bfloat16", device="cpu").encode_documents(TEXTS)
    assert (half * encoder.encode_documents(TEXTS)).sum(1).min() > 0.999


def test_save_and_load_give_equal_vectors(encoder, tmp_path):
    encoder.save(tmp_path / "saved")
    again = Encoder.load(tmp_path / "saved", dtype="float32", device="cpu")
    np.testing.assert_array_equal(again.encode_documents(TEXTS), encoder.encode_documents(TEXTS))
    assert again.settings == encoder.settings
    with pytest.raises(RagvecError, match="not empty"):
        encoder.save(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"], "no temporary folder stays behind"


def test_fingerprint_follows_content_not_place(encoder, tiny_decoder, tmp_path):
    shutil.copytree(tiny_decoder, tmp_path / "copy")
    assert Encoder.load(tmp_path / "copy", device="cpu").fingerprint == encoder.fingerprint
    assert Encoder.load(tiny_decoder, device="cpu", pooling="last_token").fingerprint != encoder.fingerprint
    other = save_tiny_decoder(tmp_path / "other", initializer_range=0.1)
    assert Encoder.load(other, device="cpu").fingerprint != encoder.fingerprint


def test_fingerprint_follows_how_much_an_adapter_counts(tiny_decoder, tmp_path):
    """Usual LoRA, alpha twice the rank, has the fingerprint of its weights alone, as it always had."""
    model = AutoModel.from_pretrained(tiny_decoder)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(tmp_path)
    path, key = tmp_path / "adapter_config.json", "layers.0.self_attn.q_proj"
    told = json.loads(path.read_text()) | {"base_model_name_or_path": str(tiny_decoder)}

    def named(**values) -> str:
        path.write_text(json.dumps({**told, **values}))
        return fingerprint((tiny_decoder, tmp_path), tiny_decoder, EncoderSettings())

    usual = named(lora_alpha=16, r=8)
    others = [named(lora_alpha=32), named(lora_alpha=16, use_rslora=True), named(lora_alpha=16, alpha_pattern={key: 64})]
    assert len({usual, *others}) == 4
    assert named(lora_alpha=16, peft_version="0", inference_mode=False, revision="main") == usual
    path.unlink()
    assert fingerprint((tiny_decoder, tmp_path), tiny_decoder, EncoderSettings()) == usual


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64"}, "choose one of float32"),
        ({"dtype": "float16"}, "no fast kernels on a CPU"),
        ({"device": "cuda:99"}, "choose cpu"),
        ({"pooling": "median"}, "weighted_mean"),
        ({"attention": "sideways"}, "bidirectional"),
        ({"max_length": 0}, "at least 1 token"),
        ({"adapters": ["tests"]}, "adapter_config.json"),
    ],
)
def test_wrong_options_say_what_to_choose(tiny_decoder, options, message):
    with pytest.raises(RagvecError, match=message):
        Encoder.load(tiny_decoder, **{"device": "cpu", **options})


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(RagvecError, match="no hub id"):
        Encoder.load(tmp_path / "absent")
    with pytest.raises(RagvecError, match="local cache"):
        Encoder.load("nobody/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RagvecError, match="holds none of ragvec.json"):
        Encoder.load(tmp_path / "empty")


def test_pickled_weights_are_refused(tiny_decoder, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_decoder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RagvecError, match="pytorch_model.bin.*safetensors alone"):
        Encoder.load(folder)


def test_damaged_checkpoints_are_refused(tiny_decoder, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_decoder, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(RagvecError, match="does not load"):
        Encoder.load(folder, device="cpu")
    (folder / "ragvec.json").write_text("{", encoding="utf-8")
    with pytest.raises(RagvecError, match="restore it"):
        Encoder.load(folder, device="cpu")
    (folder / "ragvec.json").write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(RagvecError, match="upgrade ragvec"):
        Encoder.load(folder, device="cpu")


def test_missing_weights_are_an_error_not_random_numbers(tiny_decoder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "partial"
    shutil.copytree(tiny_decoder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RagvecError, match="not a whole llama model"):
        Encoder.load(folder, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_probe_tells_directions_apart_by_any_earlier_state(tiny_decoder, dtype):
    moved = {}
    for attention in ("causal", "bidirectional"):
        encoder = Encoder.load(tiny_decoder, dtype=dtype, device="cpu", attention=attention)
        with torch.no_grad():  # a first state that heeds nothing but itself, as that of a pretrained decoder does nearly
            layer = encoder.model.layers[0].self_attn
            attend = layer.forward

            def deaf(*args, attend=attend, **options):
                states, *rest = attend(*args, **options)
                states = states.clone()
                states[:, 0] = 0
                return states, *rest

            layer.forward = deaf
            del encoder.model.layers[1:]
        result = probe(encoder.model, 40, torch.device("cpu"))
        moved[attention] = result.moved
        assert result.bidirectional == (attention == "bidirectional")
    assert moved["causal"] == 0 and moved["bidirectional"] > 0.001


def test_convert_writes_a_verified_encoder(tiny_decoder, tmp_path):
    result = convert(str(tiny_decoder), tmp_path / "encoder", pooling="weighted_mean", query_instruction="find:")
    assert result.bidirectional and result.packs and result.padding_error < 1e-5
    settings = read_settings(tmp_path / "encoder")
    assert settings.packed and settings.pooling == "weighted_mean" and settings.query_instruction == "find:"
    encoder = Encoder.load(tmp_path / "encoder", dtype="float32", device="cpu")
    plain = Encoder.load(tiny_decoder, dtype="float32", device="cpu", pooling="weighted_mean")
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS), plain.encode_documents(TEXTS))
    readable = (tmp_path / "encoder").stat().st_mode & 0o444
    assert {path.stat().st_mode & 0o444 for path in (tmp_path / "encoder").iterdir()} == {readable}


def test_converting_replaces_an_encoder_when_told_to_and_nothing_else_ever(tiny_decoder, tmp_path):
    taken = tmp_path / "thesis"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RagvecError, match="thesis holds 'thesis.tex' and no encoder of ragvec's: choose another folder"):
            convert(str(tiny_decoder), taken, overwrite=overwrite)
    assert (taken / "thesis.tex").read_text() == "years of work"
    convert(str(tiny_decoder), tmp_path / "encoder")
    with pytest.raises(RagvecError, match="is not empty: choose another folder, or pass `overwrite` to replace it"):
        convert(str(tiny_decoder), tmp_path / "encoder")
    convert(str(tiny_decoder), tmp_path / "encoder", pooling="last_token", overwrite=True)
    assert read_settings(tmp_path / "encoder").pooling == "last_token"


def test_state_space_models_are_refused_by_name(tmp_path):
    folder = save_tiny_decoder(tmp_path / "mamba", "mamba")
    with pytest.raises(RagvecError, match="mamba can't be converted: its layers are recurrent"):
        convert(str(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_max_length_alone_frees_the_text_too():
    settings = EncoderSettings().override(max_length=64)
    assert (settings.max_length, settings.doc_max_length) == (64, 64)


def test_inference_builds_no_graph(encoder):
    assert not torch.is_inference_mode_enabled()
    encoder.encode_documents(["fox"])
    assert all(weight.grad is None for weight in encoder.model.parameters())
