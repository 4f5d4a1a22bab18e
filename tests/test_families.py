"""Every decoder family that ragvec claims: bidirectional, and packed batches equal to the model's own padded ones."""

import numpy as np
import pytest
import torch

from ragvec import Encoder, RagvecError
from ragvec.encoder import convert
from ragvec.encoder.bidirectional import make_bidirectional
from ragvec.encoder.probe import probe
from tests.tiny import TEXTS, save_tiny_decoder

_GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8}
_MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}
PACKING = {
    "llama": {},
    "mistral": {},
    "mistral with a window": {"sliding_window": 4},
    "mixtral": _MOE,
    "qwen2": {},
    "qwen3": {},
    "gemma": {"head_dim": 8},
    "gemma2 with a window": {**_GEMMA, "sliding_window": 4},
    "gemma3_text with a window": {**_GEMMA, "sliding_window": 4},
    "phi": {},
    "phi3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt_neox": {},
    "gpt_oss with a window": {**_MOE, "head_dim": 8, "sliding_window": 4},
    "olmo2": {},
    "olmo3 with a window": {"sliding_window": 4},
    "smollm3": {},
    "granite": {},
    "starcoder2": {},
    "cohere": {},
    "glm4": {},
}
PADDED = {"falcon": {}, "bloom": {}, "stablelm": {}}


@pytest.mark.parametrize("family", PACKING)
def test_packs_and_sees_both_ways(family, tmp_path):
    folder = save_tiny_decoder(tmp_path / "base", family.split()[0], **PACKING[family])
    result = convert(str(folder), tmp_path / "encoder")
    assert result.bidirectional and result.packs, result
    assert result.padding_error < 1e-5 and result.packing_error < 1e-5


@pytest.mark.parametrize("family", PADDED)
def test_what_does_not_pack_is_padded_and_says_so(family, tmp_path, caplog):
    folder = save_tiny_decoder(tmp_path / "base", family, **PADDED[family])
    encoder = Encoder.load(folder, dtype="float32", device="cpu")
    assert encoder.settings.packed is False
    assert "padded, not packed" in caplog.text
    alone = np.concatenate([encoder.encode_documents([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), alone, atol=3e-6)


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba", "jamba", "t5"])
def test_what_cannot_be_converted_is_refused_by_name(family):
    from transformers import AutoConfig

    class Shell(torch.nn.Module):
        config = AutoConfig.for_model(family)

    with pytest.raises(RagvecError, match=f"^{family} can't be converted"):
        make_bidirectional(Shell())


def test_a_model_that_stays_causal_fails_the_probe(tmp_path):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(save_tiny_decoder(tmp_path / "base"), dtype=torch.float32)
    assert not probe(model, 300, torch.device("cpu")).bidirectional
    make_bidirectional(model)
    assert probe(model, 300, torch.device("cpu")).bidirectional
