"""Which index a collection of Milvus has, how it is built, and what a search of it is told."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pymilvus import MilvusClient

from ragvec.errors import Unavailable, WrongInput

FIELD = "embedding"
DEFAULT = "HNSW"
LEAST_LOOK = 256  # candidates that a search keeps at least
STALLED_S = 1800.0  # without one more segment indexed: a server that can't build a kind tries for ever, and tells its log alone
_LISTS = {"nlist": 1024}  # of each of Milvus's own segments


class Kind(NamedTuple):
    """An index: what its building is told, and what a search for k is."""

    build: dict[str, Any]
    search: Callable[[int], dict[str, Any]]


KINDS = {
    "HNSW": Kind({"M": 16, "efConstruction": 200}, lambda k: {"ef": max(k, LEAST_LOOK)}),
    "DISKANN": Kind({}, lambda k: {"search_list": max(k, LEAST_LOOK)}),
    "IVF_FLAT": Kind(_LISTS, lambda k: {"nprobe": 64}),
    "IVF_RABITQ": Kind(
        {**_LISTS, "refine": True, "refine_type": "SQ8"}, lambda k: {"nprobe": 64, "rbq_query_bits": 0, "refine_k": 4}
    ),
}


def known(name: str) -> str:
    """An index' name as Milvus writes it. Raises WrongInput for one that is not in KINDS."""
    if name.upper() not in KINDS:
        raise WrongInput(f"Milvus is asked for an index {name!r:.40}: choose one of {', '.join(KINDS)}")
    return name.upper()


def make_index(client: MilvusClient, collection: str, name: str) -> None:
    """Build it, and wait for it; on an empty collection a server tells whether it knows such an index."""
    params = client.prepare_index_params()
    params.add_index(FIELD, index_type=name, metric_type="IP", params=KINDS[name].build)
    client.create_index(collection, params)


def wait_for_index(client: MilvusClient, collection: str) -> None:
    """Until a server has indexed what was flushed. Raises Unavailable where it fails, or indexes nothing more for STALLED_S."""
    indexed, since = -1, time.monotonic()
    while (told := client.describe_index(collection, FIELD))["pending_index_rows"]:  # its state says Finished meanwhile
        if told["indexed_rows"] > indexed:
            indexed, since = told["indexed_rows"], time.monotonic()
        if told["state"] == "Failed" or time.monotonic() - since > STALLED_S:
            raise Unavailable(
                f"Milvus has built its index {told['index_type']} for {told['indexed_rows']:,} of {told['total_rows']:,} "
                "passages and gets no further: its log says why; some builds know a kind that they can't build, HNSW is in all"
            )
        time.sleep(0.5)


def index_of(client: MilvusClient, collection: str) -> str:
    """The name of the index that a collection has."""
    return str(client.describe_index(collection, FIELD)["index_type"])


def search_params(name: str, k: int) -> dict[str, Any]:
    """What a search for k is told; an index that somebody else has chosen is left to Milvus's own defaults."""
    kind = KINDS.get(name)
    return {"metric_type": "IP", "params": kind.search(k) if kind else {}}
