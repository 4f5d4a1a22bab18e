"""Encoders in other libraries' layouts: equal vectors there, and a reason where there can be none."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from ragvec import Encoder
from ragvec.encoder import EncoderSettings, write_settings
from ragvec.encoder.templates import Template
from ragvec.errors import RagvecError, WrongInput
from ragvec.export import check as checking
from ragvec.export import export
from ragvec.export.layouts import write
from ragvec.export.sentence_transformer import same_border
from tests.tiny import TEXTS, save_tiny_decoder

INSTRUCTION = "Given a question, retrieve passages that answer it:"
MEAN = {"query_instruction": INSTRUCTION}
ENDED = {**MEAN, "template": Template("</s>user\n", "</s>", "</s>")}  # as Llama 3's: one special token ends it


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def decoder(request, tmp_path_factory) -> Path:
    return save_tiny_decoder(tmp_path_factory.mktemp(request.param), request.param)


def encoder_of(decoder: Path, **changes) -> Encoder:
    """A converted decoder with some settings changed, in float32."""
    encoder = Encoder.load(decoder, device="cpu", dtype="float32")
    settings = replace(encoder.settings, **changes)
    return Encoder(encoder.model, encoder.tokenizer, settings, source="", fingerprint="")


def saved(decoder: Path, folder: Path, **changes) -> Path:
    encoder_of(decoder, **changes).save(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [MEAN, ENDED, {"query_instruction": ""}, {**MEAN, "skip_instruction": False}, {**MEAN, "attention": "causal"},
     *({**ENDED, "pooling": pooling} for pooling in ("eos_token", "last_token", "bos_token"))],
)  # fmt: skip
def test_sentence_transformers_makes_the_same_vectors(changes, decoder, tmp_path):
    """Queries and documents, in batches and alone, with the prompts that the folder brings along."""
    theirs = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    if changes.get("attention") == "causal":
        decoder = saved(decoder, tmp_path / "causal")
        settings = replace(encoder_of(decoder).settings, **changes)
        write_settings(decoder, settings)
        encoder = Encoder.load(decoder, device="cpu", dtype="float32")
    else:
        encoder = encoder_of(decoder, **changes)
    write(encoder, "sentence-transformers", tmp_path / "out")
    model = theirs.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    texts = [*TEXTS, "  in front", "a\nb"]
    queries = same_border(encoder, texts, encoder.settings.query_instruction)
    assert "fox" in queries and (len(queries) == len(texts) or changes["query_instruction"])
    np.testing.assert_allclose(model.encode_query(queries), encoder.encode_queries(queries), atol=1e-5)
    documents = encoder.encode_documents(texts)
    np.testing.assert_allclose(model.encode_document(texts), documents, atol=1e-5)
    np.testing.assert_allclose(model.encode(texts), documents, atol=1e-5)
    np.testing.assert_allclose(model.encode(texts[0]), documents[0], atol=1e-5)
    assert model.max_seq_length == 512
    again = Encoder.load(tmp_path / "out", device="cpu", dtype="float32")
    np.testing.assert_allclose(again.encode_documents(texts[:-2]), documents[:-2], atol=1e-5)
    np.testing.assert_allclose(again.encode_queries(["fox"]), encoder.encode_queries(["fox"]), atol=1e-5)
    assert again.settings.packed, "what was written for that library is read here as well"


def test_words_of_other_weights_are_refused(decoder, tmp_path):
    write(encoder_of(decoder, **MEAN), "sentence-transformers", tmp_path / "out")
    [path] = (tmp_path / "out").glob("*_WordWeights/model.safetensors")
    weights = load_file(path)
    weights["emb_layer.weight"][7] = 0.5
    save_file(weights, path)
    with pytest.raises(WrongInput, match="weights of words load here only where"):
        Encoder.load(tmp_path / "out", device="cpu")


def test_the_whole_way_with_sentence_transformers_checking(tiny_decoder, tmp_path):
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    encoder = saved(tiny_decoder, tmp_path / "encoder", **MEAN)
    done = export(encoder, "sentence-transformers", tmp_path / "out")
    assert done.check.deviation < 1e-5 and "texts over 400 tokens" in done.notes[2]
    with pytest.raises(RagvecError, match=r"out is not empty: choose another folder"):
        export(encoder, "hf", tmp_path / "out")


def test_a_plain_folder_is_read_by_transformers_and_an_adapter_is_merged(tiny_decoder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = get_peft_model(
        AutoModel.from_pretrained(tiny_decoder), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    model.save_pretrained(tmp_path / "adapter")
    done = export(tmp_path / "adapter", "hf", tmp_path / "out")
    assert done.check.deviation < 1e-5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "config.json").read_text())["is_causal"] is False
    merged, base = (Encoder.load(path, device="cpu", dtype="float32").encode_documents(TEXTS)
                    for path in (tmp_path / "out", tiny_decoder))  # fmt: skip
    assert np.abs(merged - base).max() > 1e-3
    np.testing.assert_allclose(
        merged, Encoder.load(tmp_path / "adapter", device="cpu", dtype="float32").encode_documents(TEXTS), atol=1e-5
    )


def test_vectors_that_differ_there_leave_nothing_behind(tiny_decoder, tmp_path, monkeypatch):
    def other(encoder, to, task):
        return np.ones((len(task["documents"]), encoder.dimension), dtype=np.float32)

    monkeypatch.setattr(checking, "_own", other)
    with pytest.raises(
        RagvecError, match=r"hf makes other vectors of this encoder \(they differ by up to .*nothing is written"
    ):
        export(tiny_decoder, "hf", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_references_layout(tiny_decoder, tmp_path):
    """As its transformers (4.44) and tokenizers (0.19) read it; ragvec reads it back to equal vectors."""
    encoder = saved(tiny_decoder, tmp_path / "encoder", **MEAN, max_length=200, doc_max_length=100)
    done = export(encoder, "llm2vec", tmp_path / "out")
    assert done.check.deviation is None and done.check.where == "llm2vec is not installed in this environment"
    assert f"pass [['{INSTRUCTION}', query], …]" in done.notes[0]
    names = ("llm2vec_config", "config", "tokenizer_config", "tokenizer")
    reference, config, options, tokenizer = (json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in names)
    assert reference == {"pooling_mode": "mean", "max_length": 200, "doc_max_length": 100, "skip_instruction": True}
    assert (
        config["torch_dtype"] == "float32" and config["rope_theta"] == 10000.0 and not {"dtype", "rope_parameters"} & {*config}
    )
    assert options["tokenizer_class"] == "PreTrainedTokenizerFast" and options["pad_token"] == "</s>"
    assert all(isinstance(merge, str) for merge in tokenizer["model"]["merges"])
    ours, theirs = (Encoder.load(path, device="cpu", dtype="float32") for path in (encoder, tmp_path / "out"))
    assert theirs.settings.doc_max_length == 100
    np.testing.assert_allclose(
        theirs.encode_queries(TEXTS, instruction=INSTRUCTION), ours.encode_queries(TEXTS), atol=1e-6
    )  # fmt: skip


def test_a_chat_template_is_named_as_the_reference_knows_it_whatever_the_base_was_called(tiny_decoder, tmp_path):
    changes = {"template": Template("[INST] ", " [/INST]"), "base_model": "me/tuned"}
    write(encoder_of(tiny_decoder, **changes), "llm2vec", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["_name_or_path"] == "meta-llama/Llama-2-7b-chat-hf"


@pytest.mark.parametrize(
    ("to", "changes", "message"),
    [
        ("sentence-transformers", {"pooling": "weighted_mean"}, "counts the weights of a weighted mean from the prompt's"),
        ("sentence-transformers", {"template": Template("[I] ", " [/I]")}, r"the template ends in \d tokens, which"),
        (
            "llm2vec",
            {"attention": "causal"},
            "the reference makes every model bidirectional, this encoder's attention is causal",
        ),
        (
            "llm2vec",
            {"template": Template("user: ")},
            "knows the chat templates of some published models alone, and none is this encoder's",
        ),
    ],
)
def test_what_a_layout_cannot_express(to, changes, message, tiny_decoder, tmp_path):
    with pytest.raises(RagvecError, match=message):
        write(encoder_of(tiny_decoder, **changes), to, tmp_path / "out")


@pytest.mark.parametrize(
    ("family", "message"), [("qwen2", "leaves Qwen2 causal"), ("qwen3", "reads llama, .* alone, not qwen3")]
)
def test_families_that_the_reference_does_not_know(family, message, tmp_path):
    encoder = encoder_of(save_tiny_decoder(tmp_path / "base", family))
    with pytest.raises(RagvecError, match=message):
        write(encoder, "llm2vec", tmp_path / "out")


def test_an_unknown_format_or_interpreter(tiny_decoder, tmp_path):
    with pytest.raises(RagvecError, match="unknown format 'onnx': choose one of sentence-transformers, llm2vec, hf, ragvec"):
        export(tiny_decoder, "onnx", tmp_path / "out")
    with pytest.raises(RagvecError, match="none can't be started .*: name a Python interpreter"):
        export(tiny_decoder, "hf", tmp_path / "out", python=str(tmp_path / "none"))


def test_ragvecs_own_layout_needs_no_base_and_keeps_every_setting(tiny_decoder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    shutil.copytree(tiny_decoder, tmp_path / "base")
    model = get_peft_model(
        AutoModel.from_pretrained(tmp_path / "base"), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    model.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "../base"}))
    write_settings(tmp_path / "adapter", EncoderSettings(base_model="../base", truncate_dim=16, doc_max_length=77))
    before = Encoder.load(tmp_path / "adapter", device="cpu", dtype="float32")
    done = export(tmp_path / "adapter", "ragvec", tmp_path / "out")
    assert done.check.deviation < 1e-5 and not done.notes
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    after = Encoder.load(tmp_path / "out", device="cpu", dtype="float32")
    assert (after.settings.truncate_dim, after.settings.doc_max_length, after.settings.adapters) == (16, 77, ())
    np.testing.assert_allclose(after.encode_queries(TEXTS), before.encode_queries(TEXTS), atol=1e-5)
    with pytest.raises(RagvecError) as caught:
        Encoder.load(tmp_path / "adapter", device="cpu")
    assert str(caught.value).startswith(
        f"{tmp_path / 'adapter'} is an adapter upon ../base, which is not found from there (no model"
    )
