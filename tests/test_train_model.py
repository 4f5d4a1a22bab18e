"""What is trained and what is not: LoRA's targets, the head, frozen parts; and loss and gradient against the reference."""

import numpy as np
import pytest
import torch

from ragvec.encoder import EncoderSettings
from ragvec.errors import RagvecError
from ragvec.train.loss_module import LossModule
from ragvec.train.model import Learner, add_embedding_row
from ragvec.train.objectives.language import LanguageBatch, language_loss
from ragvec.train.objectives.masking import IGNORED
from ragvec.train.recipe import make_recipe
from ragvec.train.trainable import add_trainable_parts, load_learner, lora_targets
from ragvec.train.training_plan import count_parameters
from tests.conftest import shared
from tests.tiny import save_tiny_decoder
from tests.training import losses, run, vectors, write_data

LLAMA_3_8B = dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                  num_key_value_heads=8, tie_word_embeddings=False)  # fmt: skip
LLAMA_TARGETS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def recipe(objective: str = "mntp", **keys):
    return make_recipe(objective, {"output_dir": "out", **keys})[0]


def learn(folder, objective: str = "mntp", **keys) -> Learner:
    made = recipe(objective, model_name_or_path=str(folder), torch_dtype="float32", **keys)
    torch.manual_seed(0)
    learner = load_learner(made)
    add_trainable_parts(learner, made)
    return learner


def trained(learner: Learner) -> set[str]:
    model = learner.whole or learner.backbone
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(("train_lm_head", "count"), [(True, 567_279_616), (False, 41_943_040)])
def test_trainable_parameters_of_llama_3_8b_are_the_references(train_lm_head, count):
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **LLAMA_3_8B), dtype=torch.bfloat16)
        learner = Learner(
            whole.base_model, None, EncoderSettings(), None, device=torch.device("meta"), dtype=torch.bfloat16, whole=whole
        )
        add_trainable_parts(learner, recipe(train_lm_head=train_lm_head))
    module = LossModule(learner, language_loss)
    assert count_parameters(module, trainable=True) == count
    trained_dtypes = {weight.dtype for weight in module.parameters() if weight.requires_grad}
    assert trained_dtypes == {torch.float32}  # small steps would vanish in bfloat16
    assert count_parameters(module) == 8_030_261_248 + 41_943_040


def test_lora_reaches_every_linear_layer_of_a_block(tiny_decoder):
    learner = learn(tiny_decoder)
    assert lora_targets(learn(tiny_decoder, lora_r=0).backbone) == LLAMA_TARGETS
    names = trained(learner)
    assert {name.split(".")[-4] for name in names} == set(LLAMA_TARGETS) and len(names) == 2 * 2 * len(LLAMA_TARGETS)
    config = learner.adapter.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (16, 32, 0.05, "none")


def test_lora_modules_narrow_the_choice(tiny_decoder):
    names = trained(learn(tiny_decoder, lora_modules=["q_proj", "v_proj"], lora_r=2, lora_alpha=3))
    assert {name.split(".")[-4] for name in names} == {"q_proj", "v_proj"}
    with pytest.raises(RagvecError, match="no linear layer 'w_qs': choose from down_proj, gate_proj"):
        learn(tiny_decoder, lora_modules=["w_qs"])


@pytest.mark.parametrize(("family", "layer"), [("gpt2", "c_attn"), ("phi", "fc1"), ("gpt_neox", "query_key_value")])
def test_lora_finds_the_linear_layers_of_other_families(family, layer, tmp_path):
    learner = learn(save_tiny_decoder(tmp_path, family))
    assert layer in {name.split(".")[-4] for name in trained(learner)}


def test_the_head_is_frozen_unless_asked_for(tiny_decoder, tmp_path):
    assert "lm_head.weight" not in trained(learn(tiny_decoder))
    assert "lm_head.weight" in trained(learn(tiny_decoder, train_lm_head=True))
    assert "lm_head.weight" not in trained(learn(tiny_decoder, lora_r=0))
    assert "lm_head.weight" in trained(learn(tiny_decoder, "clm"))
    tied = save_tiny_decoder(tmp_path, tie_word_embeddings=True)
    with pytest.raises(RagvecError, match="train_lm_head: this model's head is its token embedding"):
        learn(tied, train_lm_head=True)


def test_frozen_parts(tiny_decoder):
    names = trained(learn(tiny_decoder, "clm", freeze=["layers.0", "norm"], freeze_embeddings=True))
    assert names and not any("layers.0." in name or "norm" in name or "embed" in name for name in names)
    with pytest.raises(RagvecError, match="freeze: no weight's name contains 'layer.0': names look like model.embed_tokens"):
        learn(tiny_decoder, freeze=["layer.0"])


@pytest.mark.parametrize("keys", [{}, {"train_lm_head": True}, {"lora_r": 0}])
def test_a_new_mask_token_leaves_frozen_what_was_frozen(tiny_decoder, keys):
    learner = learn(tiny_decoder, **keys)
    before, embedding = trained(learner), learner.backbone.get_input_embeddings().weight.detach().clone()
    add_embedding_row(learner.whole, 512)
    assert trained(learner) == before
    assert (
        learner.backbone.get_input_embeddings().weight.shape[0] == learner.whole.get_output_embeddings().weight.shape[0] == 513
    )
    assert torch.equal(learner.backbone.get_input_embeddings().weight[:512], embedding)


def test_attention_is_dropped_in_simcse_alone(tiny_decoder):
    def rates(learner):
        return {part.attention_dropout for part in learner.backbone.modules() if hasattr(part, "attention_dropout")}

    assert rates(learn(tiny_decoder, "simcse", simcse_dropout=0.4)) == {0.4}
    assert rates(learn(tiny_decoder, "supervised")) == {0.0}


@pytest.mark.parametrize("kind", ["opt", "biogpt"])
def test_attentions_dropout_is_found_under_a_plain_name(kind, tmp_path):
    decoder = save_tiny_decoder(tmp_path / kind, kind, **({"ffn_dim": 64, "word_embed_proj_dim": 32} if kind == "opt" else {}))
    parts = learn(decoder, "simcse", simcse_dropout=0.4).backbone.modules()
    assert {part.dropout for part in parts if type(part).__name__.endswith("Attention")} == {0.4}


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma"])
def test_mntp_loss_and_gradient_equal_the_references(family):
    golden = np.load(shared(f"reference/golden/{family}/mntp.npz"))
    learner = learn(shared(f"reference/golden/{family}/ckpt"), lora_r=0)
    ids, labels = golden["input_ids"], torch.tensor(golden["labels"]).flatten()
    places = (labels != IGNORED).nonzero()[:, 0]
    loss = language_loss(learner, LanguageBatch(ids.tolist(), places - 1, labels[places]))
    loss.backward()
    np.testing.assert_allclose(loss.item(), golden["loss"], atol=1e-5)
    gradient = learner.backbone.layers[0].self_attn.q_proj.weight.grad
    np.testing.assert_allclose(gradient, golden["grad_q0"], atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(tiny_decoder):
    gradients = []
    for checkpointing in (False, True):
        learner = learn(tiny_decoder, lora_dropout=0.0, gradient_checkpointing=checkpointing)
        for name, weight in learner.whole.named_parameters():
            if name.endswith("lora_B.default.weight"):
                torch.nn.init.constant_(weight, 0.01)
        learner.whole.train()
        batch = LanguageBatch([[1, 5, 6, 7], [1, 8, 9]], torch.tensor([0, 2, 5]), torch.tensor([5, 7, 9]))
        language_loss(learner, batch).backward()
        gradients.append([weight.grad for weight in learner.whole.parameters() if weight.requires_grad])
        assert all(gradient.any() for gradient in gradients[-1])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("objective", ["mntp", "supervised"])
def test_a_base_in_four_bits(objective, tiny_decoder, tmp_path):
    """Its linear layers take a fraction of their memory, the adapters learn, and the result loads upon the whole base."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    learner = learn(tiny_decoder, objective, load_in_4bit=True)
    layers = [part for part in learner.backbone.modules() if isinstance(part, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 2 * len(LLAMA_TARGETS) and {layer.weight.dtype for layer in layers} == {torch.uint8}
    whole = learn(tiny_decoder, objective)
    ids = [[1, 50, 60, 70], [1, 80, 90]]
    near = torch.nn.functional.cosine_similarity(learner.hidden(ids), whole.hidden(ids))
    assert near.mean() > 0.8 and near.max() < 0.9999
    summary = run(objective, tiny_decoder, write_data(tmp_path), tmp_path / "out", load_in_4bit=True, max_steps=8)
    assert losses(summary)[-1] < losses(summary)[0]
    assert np.abs(vectors(tmp_path / "out") - vectors(tiny_decoder)).max() > 1e-3


@pytest.mark.parametrize("keys", [{"lora_r": 0}, {"save_merged": True}, {"fsdp": True}])
def test_what_does_not_go_with_four_bits(keys, tiny_decoder, monkeypatch):
    monkeypatch.setattr("ragvec.train.quantize.find_spec", lambda name: name)
    with pytest.raises(RagvecError, match="load_in_4bit trains adapters upon a base that stays as it is"):
        learn(tiny_decoder, load_in_4bit=True, **keys)
    monkeypatch.setattr("ragvec.train.quantize.find_spec", lambda name: None)
    with pytest.raises(RagvecError, match="load_in_4bit needs bitsandbytes: pip install bitsandbytes"):
        learn(tiny_decoder, load_in_4bit=True)


@pytest.mark.parametrize(
    ("objective", "keys", "message"),
    [
        ("mntp", {}, "no model_name_or_path"),
        ("mntp", {"model_name_or_path": "/nowhere/at/all"}, "no model folder /nowhere/at/all"),
        ("clm", {"config_name": "/nowhere"}, 'add "tokenizer_name"'),
    ],
)
def test_nothing_to_start_from(objective, keys, message):
    with pytest.raises(RagvecError, match=message):
        load_learner(recipe(objective, **keys))


def test_mntp_needs_a_head(tiny_decoder, tmp_path):
    from ragvec.encoder import convert

    convert(str(tiny_decoder), tmp_path / "encoder")
    with pytest.raises(RagvecError, match="holds no language-model head .*: start from the decoder"):
        load_learner(recipe(model_name_or_path=str(tmp_path / "encoder")))
