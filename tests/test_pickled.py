"""Indices, retrievers and encoders go to other processes, as multiprocessing and Ray send them, and answer there as here."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from torch import nn

from ragvec.encoder import Encoder
from ragvec.encoder.int8 import Int8Linear
from ragvec.errors import RagvecError, WrongUsage
from ragvec.index import Index
from ragvec.joint import Joint
from ragvec.records import Document
from ragvec.remote.together import Together
from ragvec.retrieve import Retriever
from ragvec.stores import StoreIndex


@pytest.fixture(scope="module")
def encoder(tiny_decoder: Path) -> Encoder:
    return Encoder.load(tiny_decoder, device="cpu", dtype="float32")


@pytest.fixture
def index(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.chdir(tmp_path)
    with Index.create("index", encoder=encoder) as index:
        index.add([Document("a", "a red apple"), Document("b", "a green pear")])
        yield index


def test_a_spawned_process_finds_the_same(index: Index, encoder: Encoder) -> None:
    retriever = Retriever(index, encoder)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(retriever.retrieve, "apple").result(timeout=300) == retriever.retrieve("apple")
        assert pool.submit(index.add, [Document("c", "a plum")]).result(timeout=300).added == 1
    assert len(index) == 3


def test_an_encoder_that_was_not_given_is_loaded_there(index: Index, encoder: Encoder) -> None:
    with Index.open("index") as opened:
        assert opened.encoder.fingerprint == encoder.fingerprint
        kept = pickle.dumps(opened)
    assert len(kept) < 1000 < len(pickle.dumps(index))
    assert pickle.loads(kept).encoder.fingerprint == encoder.fingerprint


def test_a_copy_opens_the_folder_for_itself(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = pickle.dumps(Retriever(Joint([index])))
    monkeypatch.chdir("/")  # another process may work elsewhere
    joint = pickle.loads(kept).index
    assert [(one.path, len(one)) for one in joint.indices] == [(tmp_path / "index", 2)]
    joint.close()


def test_what_cannot_go_there_says_so(tiny_decoder: Path) -> None:
    for kind in (Together, StoreIndex):
        with pytest.raises(WrongUsage, match="not pickled: call open_retriever in each process"):
            pickle.dumps(object.__new__(kind))
    with pytest.raises(RagvecError, match="int8 .* can't be pickled: load the encoder in each process"):
        pickle.dumps(Int8Linear(nn.Linear(64, 64)))
