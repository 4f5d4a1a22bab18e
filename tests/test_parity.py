"""Slow: cosines of 0.9999 and more to sentence-transformers itself (6.2), both ways: its folders read here, ours read there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ragvec import Encoder
from ragvec.encoder.conversion import convert
from ragvec.export.layouts import write
from ragvec.export.sentence_transformer import same_border
from ragvec.records import Titled
from tests.layouts import save_layout
from tests.test_layouts import ASKED, assert_same, load, theirs
from tests.tiny import TEXTS

pytestmark = pytest.mark.slow
TITLES = ["The fox", "서울", "How much protein?"]
FEW_SHOTS = """<instruct>Given a web search query, retrieve passages that answer it.
<query>where is Seoul
<response>서울은 대한민국의 수도이다.

<instruct>Given a web search query, retrieve passages that answer it.
<query>{text}
<response>"""


@pytest.mark.parametrize("name", ["embeddinggemma", "nomic"])
def test_documents_with_titles(name, tmp_path):
    """In the place of EmbeddingGemma's none; before the text where the prompt has no place for them. Some have none."""
    folder = save_layout(name, tmp_path / name)
    model, encoder = theirs(folder), load(folder)
    texts = [Titled(title, text) for title, text in zip(TITLES, ASKED, strict=False)]
    expected = model.encode_document([str(text) for text in texts])
    if name == "embeddinggemma":
        read = [text.parts for text in texts]  # without the space at a text's end
        expected = np.stack([model.encode(text, prompt=f"title: {title} | text: ") for title, text in read])
    both = encoder.encode_documents([*texts, *ASKED])
    assert_same(both[: len(texts)], expected)
    assert_same(both[len(texts) :], model.encode_document(ASKED))


@pytest.mark.parametrize("name", ["e5-mistral", "gte-qwen2", "weighted-mean"])
def test_queries_with_examples_and_a_suffix(name, tmp_path):
    """As bge-en-icl reads them; shortened queries aside, which that library has no way to shorten."""
    folder = save_layout(name, tmp_path / name)
    model, encoder = theirs(folder), load(folder)
    asked = [FEW_SHOTS.replace("{text}", text) for text in TEXTS]
    assert_same(encoder.encode_queries(TEXTS, instruction=FEW_SHOTS), model.encode(asked, prompt=""))


@pytest.mark.parametrize("name", ["embeddinggemma", "qwen3-embedding", "nomic", "bge-m3", "max"])
def test_a_folder_read_is_written_again_for_it(name, tmp_path):
    """Dense modules, prompts and poolings, by what `ragvec export` writes."""
    folder = save_layout(name, tmp_path / name)
    write(load(folder), "sentence-transformers", tmp_path / "out")
    before, after = theirs(folder), theirs(tmp_path / "out")
    width = before.truncate_dim or len(before.encode("a"))
    texts = [text for text in ASKED if len(text) < 1000]
    for ask in ("encode_query", "encode_document"):
        again = getattr(after, ask)(texts)[:, :width]
        assert_same(again / np.linalg.norm(again, axis=1, keepdims=True), getattr(before, ask)(texts))
    assert_same(load(tmp_path / "out").encode_documents(texts), after.encode_document(texts))


@pytest.mark.parametrize(("kind", "pooling"), [("llama", "mean"), ("qwen2", "last_token")])
def test_a_gguf_file_goes_all_the_way(kind, pooling, tmp_path):
    """Converted, exported, read there."""
    pytest.importorskip("gguf", reason="gguf is not installed")
    from tests.gguf_files import save_pair

    path = save_pair(tmp_path / "model", kind)
    convert(str(path), tmp_path / "encoder", pooling=pooling)
    write(load(tmp_path / "encoder"), "sentence-transformers", tmp_path / "out")
    model, encoder = theirs(tmp_path / "out"), load(tmp_path / "encoder")
    queries = same_border(encoder, TEXTS, encoder.settings.query_instruction)
    for ours, expected in (
        (encoder.encode_queries(queries), model.encode_query(queries)),
        (encoder.encode_documents(TEXTS), model.encode_document(TEXTS)),
        (load(tmp_path / "out").encode_documents(TEXTS), model.encode_document(TEXTS)),
    ):
        assert_same(ours, expected)


@pytest.mark.parametrize("name", ["qwen3-embedding", "embeddinggemma", "nomic"])
def test_an_adapter_that_it_saved(name, tmp_path):
    """Trained weights of LoRA on top of a folder with prompts, pooling and Dense, saved by that library."""
    from peft import LoraConfig

    base = save_layout(name, tmp_path / name)
    model = theirs(base)
    modules = ["query", "value"] if name == "nomic" else ["q_proj", "v_proj"]
    model.add_adapter(LoraConfig(r=4, lora_alpha=16, target_modules=modules, task_type="FEATURE_EXTRACTION"))
    torch.manual_seed(0)
    for weight_name, weight in model.named_parameters():
        if "lora_B" in weight_name:
            weight.data = 0.3 * torch.randn(weight.shape)
    model.save_pretrained(str(tmp_path / "lora"))
    assert (tmp_path / "lora" / "adapter_config.json").is_file() and not list(Path(tmp_path / "lora").glob("model*"))
    encoder = load(tmp_path / "lora")
    assert encoder.settings.max_length == theirs(tmp_path / "lora").max_seq_length
    assert_same(encoder.encode_queries(ASKED), model.encode_query(ASKED))
    assert_same(encoder.encode_documents(ASKED), model.encode_document(ASKED))
    plain = Encoder.load(base, device="cpu", dtype="float32").encode_documents(ASKED)
    assert (plain * encoder.encode_documents(ASKED)).sum(axis=1).min() < 0.99, "the adapter changes the vectors"
