"""The layouts people have: the hub's cache offline, stacked adapters, merged folders, sentence-transformers folders."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from ragvec import Encoder, RagvecError
from ragvec.encoder import sources
from ragvec.encoder.sources import locate
from tests.tiny import TEXTS

NAME = "McGill-NLP/LLM2Vec-Tiny-mntp"
BASE = "meta-llama/Tiny"


def make_adapter(base: Path, folder: Path, *, base_name: str, seed: int) -> Path:
    """A LoRA adapter for a base model with random weights in both halves, saved as the reference publishes one."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModel.from_pretrained(base, dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj", "up_proj"])
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    record = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**record, "base_model_name_or_path": base_name}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_decoder, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return (
        make_adapter(tiny_decoder, folder / "Tiny-mntp", base_name=str(tiny_decoder), seed=1),
        make_adapter(tiny_decoder, folder / "Tiny-mntp-supervised", base_name=str(tiny_decoder), seed=2),
    )


def load(source, **options) -> np.ndarray:
    return Encoder.load(source, dtype="float32", device="cpu", **options).encode_documents(TEXTS)


def test_adapters_stack_in_order(tiny_decoder, adapters):
    first, second = adapters
    base, one, two = load(tiny_decoder), load(first), load(second)
    assert np.abs(base - one).max() > 1e-2 and np.abs(one - two).max() > 1e-2
    merged = load(tiny_decoder, adapters=[first, second])
    np.testing.assert_allclose(two, merged, atol=1e-5)  # found by the published names
    np.testing.assert_allclose(load(tiny_decoder, adapters=[first, second], merge=False), merged, atol=1e-5)


def test_a_merged_encoder_is_saved_and_an_unmerged_one_refused(tiny_decoder, adapters, tmp_path):
    encoder = Encoder.load(adapters[1], dtype="float32", device="cpu")
    encoder.save(tmp_path / "merged")
    np.testing.assert_array_equal(load(tmp_path / "merged"), encoder.encode_documents(TEXTS))
    with pytest.raises(RagvecError, match="merge=True"):
        Encoder.load(adapters[1], device="cpu", merge=False).save(tmp_path / "unmerged")


def put_in_cache(home: Path, name: str, folder: Path) -> None:
    """Lay a folder into a hub cache as huggingface_hub does."""
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc", encoding="utf-8")


def test_hub_ids_load_offline_from_the_cache(tiny_decoder, adapters, tmp_path):
    """The published layout whole: base, …-mntp and …-mntp-supervised, found from the last one's id alone."""
    put_in_cache(tmp_path, BASE, tiny_decoder)
    for name, adapter in ((NAME, adapters[0]), (f"{NAME}-supervised", adapters[1])):
        record = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        put_in_cache(tmp_path, name, adapter)
        copy = tmp_path / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / "0123abc" / "adapter_config.json"
        copy.write_text(json.dumps({**record, "base_model_name_or_path": BASE}), encoding="utf-8")
    script = (
        "import sys, numpy as np; from ragvec import Encoder; from tests.tiny import TEXTS; "
        f"e = Encoder.load('{NAME}-supervised', dtype='float32', device='cpu'); "
        "np.save(sys.argv[1], e.encode_documents(TEXTS)); print(e.settings.base_model, *e.settings.adapters)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", script, str(tmp_path / "vectors.npy")]
    out = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == [BASE, NAME, f"{NAME}-supervised"]
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), load(tiny_decoder, adapters=adapters), atol=1e-5)


def test_remote_code_is_ignored(tiny_decoder, tmp_path):
    folder = tmp_path / "remote"
    shutil.copytree(tiny_decoder, folder)
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    record["auto_map"] = {"AutoModel": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')", encoding="utf-8")
    np.testing.assert_array_equal(load(folder), load(tiny_decoder))


def test_merged_reference_folder(tiny_decoder, tmp_path):
    folder = tmp_path / "merged"
    shutil.copytree(tiny_decoder, folder)
    settings = {"pooling_mode": "weighted_mean", "max_length": 64, "doc_max_length": 48, "skip_instruction": False}
    (folder / "llm2vec_config.json").write_text(json.dumps(settings), encoding="utf-8")
    found = locate(str(folder)).settings
    assert (found.pooling, found.max_length, found.doc_max_length, found.skip_instruction) == ("weighted_mean", 64, 48, False)


def sentence_transformer(folder: Path, decoder: Path, **pooling) -> Path:
    shutil.copytree(decoder, folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40}), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    record = {"word_embedding_dimension": 32, **pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(record), encoding="utf-8")
    prompts = {"prompts": {"query": "Query: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    return folder


def test_sentence_transformers_folder(tiny_decoder, tmp_path):
    folder = sentence_transformer(tmp_path / "st", tiny_decoder, pooling_mode_lasttoken=True, pooling_mode_mean_tokens=False)
    encoder = Encoder.load(folder, dtype="float32", device="cpu")
    assert (encoder.settings.pooling, encoder.settings.max_length) == ("last_token", 40)
    causal = Encoder.load(tiny_decoder, dtype="float32", device="cpu", attention="causal", pooling="last_token")
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), causal.encode_documents(TEXTS), atol=1e-6)
    asked = encoder.encode_queries(["fox"])
    np.testing.assert_allclose(asked, causal.encode_documents(["Query: fox"]), atol=1e-6)


def test_equal_to_sentence_transformers_itself(tiny_decoder, tmp_path):
    theirs = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    folder = sentence_transformer(tmp_path / "st", tiny_decoder, pooling_mode_mean_tokens=True)
    model = theirs.SentenceTransformer(str(folder), device="cpu")
    model.tokenizer.pad_token = model.tokenizer.eos_token
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(load(folder), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "message"), [("median", "median.*an unknown mode"), ([], "unknown mode"), (7, "unknown mode")]
)
def test_other_poolings_are_refused(tiny_decoder, tmp_path, mode, message):
    with pytest.raises(RagvecError, match=message):
        locate(str(sentence_transformer(tmp_path / "st", tiny_decoder, pooling_mode=mode)))


def test_an_adapter_for_another_model_is_refused(adapters, tmp_path):
    from tests.tiny import save_tiny_decoder

    other = save_tiny_decoder(tmp_path / "other", hidden_size=16, head_dim=8)
    with pytest.raises(RagvecError, match="does not fit"):
        Encoder.load(other, adapters=[adapters[0]], device="cpu")


def test_a_pickled_adapter_is_refused(tiny_decoder, adapters, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(adapters[0], folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(RagvecError, match="save it as safetensors"):
        Encoder.load(tiny_decoder, adapters=[folder], device="cpu")


def causal_adapter(base: Path, folder: Path, **options):
    """An adapter as peft's usual recipes train it, on the model with its head; returns that model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if tokens := options.pop("tokens", None):
        torch.manual_seed(5)
        whole.resize_token_embeddings(tokens, mean_resizing=False)
    model = get_peft_model(whole, LoraConfig(r=2, task_type="CAUSAL_LM", **options))
    torch.manual_seed(3)
    for name, weight in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft says that it saves the embedding, or a tied head
        model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "up_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "tokens": 520},
    ],
)
@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_of_a_language_model(tiny_decoder, tmp_path, options, merge):
    whole = causal_adapter(tiny_decoder, tmp_path / "lora", **options).eval()
    encoder = Encoder.load(
        tmp_path / "lora", dtype="float32", device="cpu", attention="causal", pooling="last_token", merge=merge
    )
    ids = encoder.prompts.build(["fox"]).ids
    with torch.no_grad():
        states = whole(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states[-1][0, -1]
    np.testing.assert_allclose(encoder.encode_documents(["fox"], normalize=False)[0], states.numpy(), atol=1e-4)


def test_the_revision_that_an_adapter_names_is_taken(tiny_decoder, adapters, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sources, "_snapshot", lambda name, revision, **_: asked.append((name, revision)) or tiny_decoder)
    folder = tmp_path / "adapter"
    shutil.copytree(adapters[0], folder)
    record = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    told = {**record, "base_model_name_or_path": BASE, "revision": "v1.5"}
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    assert locate(str(folder)).settings.base_revision == "v1.5"
    assert asked == [(BASE, "v1.5")]


def test_an_adapter_saved_by_sentence_transformers(tiny_decoder, adapters, tmp_path):
    """Pooling, prompts and lengths are the folder's; an adapter beside them does not hide them."""
    folder = sentence_transformer(tmp_path / "st", tiny_decoder, pooling_mode_lasttoken=True)
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        (folder / name).unlink(missing_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapters[0] / name, folder)
    encoder = Encoder.load(folder, dtype="float32", device="cpu")
    assert (encoder.settings.pooling, encoder.settings.max_length, encoder.settings.attention) == (
        "last_token",
        40,
        "unchanged",
    )
    wanted = Encoder.load(
        tiny_decoder, adapters=[adapters[0]], dtype="float32", device="cpu", attention="causal", pooling="last_token"
    )
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), wanted.encode_documents(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_queries(["fox"]), wanted.encode_documents(["Query: fox"]), atol=1e-5)
    (folder / "sentence_bert_config.json").unlink()
    assert locate(str(folder)).settings.max_length == 512, "the base's positions, where nothing else is told"
