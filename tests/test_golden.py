"""Parity with the reference implementation's own outputs, within 1e-5 in float32 (needs the reference material)."""

import json

import numpy as np
import pytest

from ragvec import Encoder
from ragvec.encoder.prompt import PromptBuilder
from ragvec.encoder.templates import find_template
from tests.conftest import shared

POOLINGS = ("mean", "weighted_mean", "eos_token", "last_token", "bos_token")  # the reference's
FAMILIES = ("llama", "mistral", "gemma")
TEMPLATES = {
    "meta-llama/Llama-2-7b-chat-hf": "llama",
    "mistralai/Mistral-7B-Instruct-v0.2": "mistral",
    "google/gemma-2-9b-it": "gemma",
}


def golden(name: str):
    return shared(f"reference/golden/{name}")


def pairs() -> list[list[str]]:
    return json.loads(golden("inputs.json").read_text(encoding="utf-8"))["pairs"]


def encode_pairs(encoder: Encoder) -> np.ndarray:
    rows = [encoder.encode_counted([text], instruction=instruction, normalize=False).vectors for instruction, text in pairs()]
    return np.concatenate(rows)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("attention", "key"), [("bidirectional", "bi"), ("causal", "uni")])
def test_vectors(family, pooling, skip, attention, key):
    options = {"pooling": pooling, "skip_instruction": skip, "attention": attention}
    encoder = Encoder.load(golden(f"{family}/ckpt"), dtype="float32", device="cpu", **options)
    for implementation in ("eager", "sdpa"):
        expected = np.load(golden(f"{family}/golden_{implementation}.npz"))[f"{key}/{pooling}/skip{int(skip)}"]
        np.testing.assert_allclose(encode_pairs(encoder), expected, atol=1e-5)


def assert_prompts(builder: PromptBuilder, arrays, key: str) -> None:
    for row, (instruction, text) in enumerate(pairs()):
        prompts = builder.build([text], instruction)
        real = arrays[f"{key}input_ids"][row][arrays[f"{key}attention_mask"][row] == 1]
        assert prompts.ids[0] == real.tolist()
        assert len(real) - prompts.pool_starts[0] == arrays[f"{key}embed_mask"][row].sum()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("pooling", "key"), [("mean", "tok/"), ("eos_token", "tok_eos/")])
def test_token_ids_and_pooled_positions(family, pooling, key):
    encoder = Encoder.load(golden(f"{family}/ckpt"), device="cpu", pooling=pooling)
    assert_prompts(encoder.prompts, np.load(golden(f"{family}/golden_eager.npz")), key)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("pooling", ["mean", "eos_token"])
def test_templates(name, pooling, tmp_path):
    family = TEMPLATES[name]
    base = tmp_path / name  # the last two parts of the path are the published name
    base.parent.mkdir(parents=True)
    base.symlink_to(golden(f"{family}/ckpt"))
    encoder = Encoder.load(base, dtype="float32", device="cpu", pooling=pooling)
    arrays, key = np.load(golden("templates.npz")), f"{family}|{name}|{pooling}|"
    assert_prompts(encoder.prompts, arrays, key)
    np.testing.assert_allclose(encode_pairs(encoder), arrays[f"{key}emb"], atol=1e-5)


def test_template_strings_of_models_that_are_not_here():
    class Vocabulary:
        eos_token = "<|end_of_text|>"

        def get_vocab(self):
            return {"</s>": 2, "<|endoftext|>": 3, "<eos>": 4}

    strings = json.loads(golden("templates.json").read_text(encoding="utf-8"))
    # the reference ends Llama 3 texts in Llama 2's " </s>", which is no token there, unless it knows the model's name
    known = {key: rows for key, rows in strings.items() if not key.startswith("llama3") or "3.1" not in key}
    for key, rows in known.items():
        kind, name, pooling = key.split("|")
        vocabulary = Vocabulary()
        if kind == "llama3":
            vocabulary.get_vocab = lambda: {}
        template = find_template(name, kind.replace("llama3", "llama"), vocabulary)
        end = template.suffix + (template.eos if pooling == "eos_token" else "")
        for row, (instruction, text) in zip(rows, pairs(), strict=True):
            lead = f"{instruction} " if instruction else ""
            assert row.replace("!@#$%^&*()", "") == template.prefix + lead + text + end


@pytest.mark.parametrize("family", FAMILIES)
def test_stacked_adapters(family):
    expected = np.load(golden(f"{family}/adapters.npz"))
    base, first, second = (golden(f"{family}/{name}") for name in ("ckpt", "adapter_mntp", "adapter_supervised"))
    for key, adapters, merge in (
        ("mntp_only", [first], True),
        ("mntp+sup_merged", [first, second], True),
        ("mntp+sup_unmerged", [first, second], False),
    ):
        encoder = Encoder.load(base, adapters=adapters, merge=merge, dtype="float32", device="cpu")
        np.testing.assert_allclose(encode_pairs(encoder), expected[key], atol=1e-5, err_msg=key)


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_saved_and_reloaded(family, tmp_path):
    expected = np.load(golden(f"{family}/adapters.npz"))
    theirs = Encoder.load(golden(f"{family}/merged_saved"), dtype="float32", device="cpu")
    np.testing.assert_allclose(encode_pairs(theirs), expected["reload_merged_saved"], atol=1e-5)
    adapters = [golden(f"{family}/adapter_mntp"), golden(f"{family}/adapter_supervised")]
    ours = Encoder.load(golden(f"{family}/ckpt"), adapters=adapters, dtype="float32", device="cpu")
    ours.save(tmp_path / "merged")
    again = Encoder.load(tmp_path / "merged", dtype="float32", device="cpu")
    np.testing.assert_allclose(encode_pairs(again), expected["mntp+sup_merged"], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_published_layout_is_found_by_its_names(family, tmp_path):
    """…-mntp and …-mntp-supervised side by side, as on the hub: base and first adapter are found from the second."""
    import shutil

    shutil.copytree(golden(f"{family}/ckpt"), tmp_path / "ckpt")
    shutil.copytree(golden(f"{family}/adapter_mntp"), tmp_path / "LLM2Vec-Tiny-mntp")
    shutil.copytree(golden(f"{family}/adapter_supervised"), tmp_path / "LLM2Vec-Tiny-mntp-supervised")
    encoder = Encoder.load(tmp_path / "LLM2Vec-Tiny-mntp-supervised", dtype="float32", device="cpu")
    expected = np.load(golden(f"{family}/adapters.npz"))["mntp+sup_merged"]
    np.testing.assert_allclose(encode_pairs(encoder), expected, atol=1e-5)
    assert len(encoder.settings.adapters) == 2
