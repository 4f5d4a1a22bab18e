"""Foreign folders give the vectors of the library they are from: asked where it is installed, else as it answered once.

`python -m tests.test_layouts` asks it, and writes tests/golden_layouts.json.
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from ragvec import Document, Encoder, Index
from ragvec.corpus import read_documents, to_passages
from ragvec.errors import WrongInput
from ragvec.ingest import encode_corpus
from ragvec.ingest.build import build
from ragvec.retrieve.rerank import maxsim
from ragvec.shards import Shards
from tests.layouts import LAYOUTS, LONG, save_layout
from tests.tiny import TEXTS

GOLDEN = Path(__file__).with_name("golden_layouts.json")
ASKED = ["FOX and Seoul", LONG, *TEXTS]
WRITTEN = 2  # of them in the file


def theirs(folder: Path, device: str = "cpu") -> Any:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    return library.SentenceTransformer(str(folder), device=device, local_files_only=True)


def load(folder: Path) -> Encoder:
    return Encoder.load(folder, device="cpu", dtype="float32")


def assert_same(ours: np.ndarray, expected: np.ndarray) -> None:
    assert ours.shape == expected.shape
    lengths = np.nan_to_num(np.linalg.norm(expected, axis=1))
    known = lengths > 1e-6  # where a prompt swallows a word's only token, the library has nothing left to pool
    assert ((ours * expected).sum(axis=1)[known] / lengths[known]).min() > 0.9999 and known.sum() > len(known) / 2


@pytest.mark.parametrize("name", LAYOUTS)
def test_equal_to_what_sentence_transformers_answered(name, tmp_path):
    encoder = load(save_layout(name, tmp_path / name))
    told = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    assert encoder.settings.max_length == told["length"]
    assert encoder.settings.packed, "texts are packed, whatever the attention"
    texts = ASKED[:WRITTEN]
    np.testing.assert_allclose(encoder.encode_queries(texts)[:, :8], told["queries"], atol=1e-4)
    np.testing.assert_allclose(encoder.encode_documents(texts)[:, :8], told["documents"], atol=1e-4)
    assert encoder.encode_documents(texts).shape[1] == encoder.dimension == told["dimension"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_equal_to_sentence_transformers_itself(name, tmp_path):
    folder = save_layout(name, tmp_path / name)
    model, encoder = theirs(folder), load(folder)
    assert_same(encoder.encode_queries(ASKED), model.encode_query(ASKED))
    assert_same(encoder.encode_documents(ASKED), model.encode_document(ASKED))


@pytest.mark.parametrize("name", ["embeddinggemma", "two-poolings", "lower-case", "instructor"])
def test_a_folder_read_is_saved_whole(name, tmp_path):
    encoder = load(save_layout(name, tmp_path / name))
    encoder.save(tmp_path / "own")
    shutil.rmtree(tmp_path / name)
    again = load(tmp_path / "own")
    np.testing.assert_allclose(again.encode_documents(ASKED), encoder.encode_documents(ASKED), atol=1e-6)
    np.testing.assert_allclose(again.encode_queries(ASKED), encoder.encode_queries(ASKED), atol=1e-6)


MODULE = "sentence_transformers.models."
ODD = {
    "code-of-its-own": ([("custom_st.Transformer", ""), (MODULE + "Pooling", "1_Pooling")], "code that comes with the model"),
    "no-pooling": ([(MODULE + "Transformer", ""), (MODULE + "Normalize", "2_Normalize")], "names no Pooling"),
    "nothing": ([], "names no Pooling"),
    "no-model-first": ([(MODULE + "Pooling", "1_Pooling"), (MODULE + "Transformer", "")], "module Pooling at first: only"),
    "pooled-late": (
        [(MODULE + "Transformer", ""), (MODULE + "Normalize", "2_Normalize"), (MODULE + "Pooling", "1_Pooling")],
        "module Pooling after Normalize: only",
    ),
    "router": ([(MODULE + "Router", "")], "module Router: only"),
}


@pytest.mark.parametrize("name", ODD)
def test_modules_that_would_make_other_vectors_are_refused(name, tmp_path):
    modules, message = ODD[name]
    folder = save_layout("max", tmp_path / name)
    (folder / "modules.json").write_text(json.dumps([{"type": kind, "path": path} for kind, path in modules]))
    with pytest.raises(WrongInput, match=message):
        load(folder)


def test_a_dropout_between_the_modules_changes_nothing(tmp_path):
    folder = save_layout("two-poolings", tmp_path / "folder")
    before = load(folder).encode_documents(TEXTS)
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"type": MODULE + "Dropout", "path": "2_Dropout"})
    (folder / "modules.json").write_text(json.dumps(modules))
    np.testing.assert_array_equal(load(folder).encode_documents(TEXTS), before)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("config", {"dtype": "float99"}, "config.json: dtype is 'float99', no precision of torch's"),
        ("sentence_bert_config", {"max_seq_length": 0}, "sentence_bert_config.json: max_seq_length is 0"),
    ],
)
def test_a_value_that_can_not_be_names_its_file(name, value, message, tmp_path):
    folder = save_layout("max", tmp_path / "folder")
    path = folder / f"{name}.json"
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | value))
    with pytest.raises(WrongInput, match=message):
        load(folder)


def test_a_documents_prompt_goes_wherever_documents_go(tmp_path):
    """Into an index, its later additions, shards, and a search by tokens; and what is asked for stands before it."""
    encoder = load(save_layout("nomic", tmp_path / "nomic"))
    wanted = encoder.encode_documents(["fox"], instruction="search_document: ")
    np.testing.assert_array_equal(encoder.encode_documents(["fox"]), wanted)
    assert np.abs(encoder.encode_documents(["fox"], instruction="") - wanted).max() > 0.01
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        index.add([Document("1", "fox")])
        assert index.search(wanted, 1).scores[0, 0] == pytest.approx(1, abs=1e-3)  # stored in half precision
    (tmp_path / "corpus.jsonl").write_text('{"_id": "1", "text": "fox"}', encoding="utf-8")
    encode_corpus(to_passages(read_documents(tmp_path / "corpus.jsonl")), encoder, tmp_path / "shards", dtype="float32")
    [(_, vectors)] = Shards.open(tmp_path / "shards").blocks(8)
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    asked = encoder.encode_tokens(["fox"], instruction="search_query: ")[0].vectors
    told = encoder.encode_tokens(["fox"], instruction="search_document: ")[0].vectors
    assert maxsim(encoder, "fox", ["fox"])[0] == pytest.approx((asked @ told.T).max(axis=1).mean(), abs=1e-5)


def test_documents_after_another_instruction_are_refused(tmp_path):
    folder = save_layout("nomic", tmp_path / "nomic")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "1", "text": "fox"}', encoding="utf-8")
    build(corpus, tmp_path / "index", encoder=str(folder), document_instruction="text: ")
    with Index.open(tmp_path / "index") as index:
        assert index.settings.document_instruction == "text: "
    with pytest.raises(WrongInput, match=r"read after 'text: ', these are read after ''"):
        build(corpus, tmp_path / "index", document_instruction="")
    encode_corpus(to_passages(read_documents(corpus)), load(folder), tmp_path / "shards")
    with pytest.raises(WrongInput, match=r"read after 'text: ', these are read after 'search_document: '"):
        build(tmp_path / "shards", tmp_path / "index")


def _ask() -> dict[str, Any]:
    found = {}
    for name in LAYOUTS:
        with TemporaryDirectory() as folder:
            model = theirs(save_layout(name, Path(folder) / name))
            texts = ASKED[:WRITTEN]
            sides = {"queries": model.encode_query(texts), "documents": model.encode_document(texts)}
            unit = {side: rows / np.linalg.norm(rows, axis=1, keepdims=True) for side, rows in sides.items()}
            found[name] = {
                "length": model.max_seq_length,
                "dimension": len(unit["queries"][0]),
                **{side: rows[:, :8].round(5).astype(float).tolist() for side, rows in unit.items()},
            }
    return found


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(json.dumps(_ask()).replace('}, "', '},\n"').splitlines()) + "\n", encoding="utf-8")
    print(f"{GOLDEN}: {len(LAYOUTS)} layouts", file=sys.stderr)
