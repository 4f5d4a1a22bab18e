"""Adapters that peft wrote for a causal language model, upon the model without its head: peft's own merge is the measure."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.train.recipe import make_recipe
from ragvec.train.trainable import load_learner
from tests.tiny import TEXTS, save_tiny_decoder
from tests.training import losses, recipe_values, run, write_data

QUERY = "model.layers.0.self_attn.q_proj"
KINDS = {
    "patterns-literal": {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {QUERY: 64}, "rank_pattern": {QUERY: 2}},
    "patterns-anchored": {
        "target_modules": ["q_proj", "v_proj"],
        "alpha_pattern": {f"^{QUERY}": 64},
        "rank_pattern": {f"^{QUERY}": 2},
    },
    "patterns-escaped": {"target_modules": ["q_proj"], "alpha_pattern": {QUERY.replace(".", r"\."): 64}},
    "targets-by-pattern": {"target_modules": r"model\.layers\.\d+\.self_attn\.(q|v)_proj"},
    "excluded-by-pattern": {"target_modules": ["q_proj"], "exclude_modules": r"model\.layers\.0\..*"},
    "layers": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_however_a_layer_is_named_vectors_are_those_of_pefts_merge(tmp_path: Path, kind: str) -> None:
    base = save_tiny_decoder(tmp_path / "base")
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, init_lora_weights=False, **KINDS[kind])
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "merged")
    found, wanted, bare = (
        Encoder.load(folder, device="cpu", dtype="float32").encode_documents(TEXTS)
        for folder in (tmp_path / "adapter", tmp_path / "merged", base)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - bare).max() > 1e-3


@pytest.mark.filterwarnings("ignore:Adapter .default.. 2 LoRA tensor", "ignore:`lora_bias=True` was passed")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"layer_replication": [[0, 2], [0, 2]]}, r"repeats layers \(layer_replication\), so it can't be merged"),
        ({"lora_bias": True}, r"can't be merged; in Python merge=False loads it apart: Impossible to merge"),
    ],
)
def test_what_no_merge_can_express_is_refused_and_loads_apart(tmp_path: Path, options: dict, why: str) -> None:
    """Merged, both copies of a layer would have the changes of both."""
    base = save_tiny_decoder(tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, **options)
    get_peft_model(AutoModel.from_pretrained(base, dtype=torch.float32), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(RagvecError, match=why):
        Encoder.load(tmp_path / "adapter", device="cpu")
    apart = Encoder.load(tmp_path / "adapter", device="cpu", merge=False)
    assert np.isfinite(apart.encode_documents(TEXTS)).all()


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`", "ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("tied", [False, True])
def test_a_resized_embedding_that_is_saved_is_the_models(tmp_path: Path, tied: bool) -> None:
    base = save_tiny_decoder(tmp_path / "base", tie_word_embeddings=tied, vocab_size=384)
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    model.resize_token_embeddings(386)
    saved = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], modules_to_save=saved))
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    encoder = Encoder.load(tmp_path / "adapter", device="cpu", dtype="float32")
    embedding = adapted.get_input_embeddings()
    kept = embedding.modules_to_save["default"] if hasattr(embedding, "modules_to_save") else embedding
    torch.testing.assert_close(encoder.model.get_input_embeddings().weight, kept.weight)
    assert encoder.encode_documents(["<|im_start|> words"]).shape == (1, encoder.dimension)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`", "ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("objective", ["clm", "mntp"])
def test_tokens_that_an_adapter_adds_are_predicted(tmp_path: Path, objective: str, tied: bool) -> None:
    """The head grows with the embedding, and is the one that the adapter was saved with."""
    base = save_tiny_decoder(tmp_path / "base", tie_word_embeddings=tied, vocab_size=384)
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    model.resize_token_embeddings(386)
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "adapter"
    )
    tokenizer.save_pretrained(tmp_path / "adapter")
    data = write_data(tmp_path)
    (data / "chat.json").write_text(json.dumps([{"text": f"<|im_start|>fox {row}<|im_end|>"} for row in range(36)]))
    keys = {"train_file": "chat.json", **({"mask_token": "a"} if objective == "mntp" else {})}
    recipe, _ = make_recipe(objective, recipe_values(objective, tmp_path / "adapter", data, tmp_path / "out", **keys))
    learner = load_learner(recipe)
    torch.testing.assert_close(learner.language_model.get_output_embeddings().weight, model.get_output_embeddings().weight)
    assert losses(run(objective, tmp_path / "adapter", data, tmp_path / "out", **keys))[-1] > 0


# family → sizes, the names of its embedding and head in peft's configuration, and the head's name in files of older versions
FAMILIES = {
    "gpt_neox": ({}, "embed_in", "lm_head", "embed_out"),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}, "wte", "lm_head", "lm_head"),
    "bloom": ({}, "word_embeddings", "lm_head", "lm_head"),
    "opt": ({"ffn_dim": 64, "word_embed_proj_dim": 32}, "embed_tokens", "lm_head", "lm_head"),
    "biogpt": ({}, "embed_tokens", "output_projection", "output_projection"),
}


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`", "ignore:fan_in_fan_out is set to")
@pytest.mark.parametrize("kind", FAMILIES)
def test_embedding_and_head_are_found_under_every_familys_names(tmp_path: Path, kind: str) -> None:
    sizes, embedding, head, stored = FAMILIES[kind]
    base = save_tiny_decoder(tmp_path / "base", kind, tie_word_embeddings=False, vocab_size=384, **sizes)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    model.resize_token_embeddings(386)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", modules_to_save=[embedding, head])
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    rename(tmp_path / "adapter", head, stored)
    whole = (adapted.get_input_embeddings(), adapted.get_output_embeddings())
    saved = [part.modules_to_save["default"].weight for part in whole]
    encoder = Encoder.load(tmp_path / "adapter", device="cpu", dtype="float32")
    torch.testing.assert_close(encoder.model.get_input_embeddings().weight, saved[0])
    recipe, _ = make_recipe("mntp", recipe_values("mntp", tmp_path / "adapter", write_data(tmp_path), tmp_path / "out"))
    torch.testing.assert_close(load_learner(recipe).language_model.get_output_embeddings().weight, saved[1])


def rename(adapter: Path, head: str, stored: str) -> None:
    """Give an adapter's head the name that it has in files of older versions."""
    weights, path = load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_config.json"
    named = {name.replace(f".{head}.", f".{stored}."): weight for name, weight in weights.items()}
    save_file(named, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    path.write_text(path.read_text().replace(f'"{head}"', f'"{stored}"'))
