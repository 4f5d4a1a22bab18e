"""The server against the same work in process, as ratios in the same run.

    python -m tests.bench.serve [--encoder ENCODER | --shape 384x6] [--documents 60000] [--clients 64] [--seconds 10]

One client: POST /search over an index of so many documents (random vectors, words of the sample corpus), hybrid and dense,
against encoding and searching in process, in turns; CPU time of searches alone and together. Many clients: queries a second of
POST /v1/embeddings and of POST /search from so many at once, in rounds that alternate with the same queries one at a time in
process; p50 and p99 of their latency. The clients are tests.bench.load, in a process of their own on the same cores. --shape:
random weights, hidden size x layers.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ragvec.data import data_path
from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve import Retriever
from ragvec.retrieve.request import Mode, Request
from ragvec.serve.gathered import MOST_TOGETHER
from tests.bench.encode import make_texts, random_model
from tests.serving import Server, serving

ROUNDS = 200
MANY_ROUNDS = 3
PAUSE = 0.02  # seconds between turns: threads of OpenMP keep a core busy for a while after their work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, dest="model", default=data_path("encoder"), help="default: the bundled one")
    parser.add_argument("--shape", help="random weights instead: hidden size x layers, e.g. 384x6")
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    options.device = "cpu"
    queries = make_queries()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = random_model(folder / "encoder", options) if options.shape else options.model
        encoder = Encoder.load(source)
        describe(encoder, queries)
        path = build_index(folder / "index", encoder, options.documents)
        with Index.open(path) as index, serving("-i", path, "-e", source, cwd=folder, environment=all_cores()) as server:
            retriever = Retriever(index, encoder)
            one_client(server, retriever, queries)
            searched_together(retriever, queries, encoder.encode_queries(queries))
            embeddings = [{"input": query, "input_type": "query", "encoding_format": "base64"} for query in queries]
            many_clients(server, "/v1/embeddings", embeddings, lambda n: encoder.encode_queries([queries[n]]), options)
            modes: tuple[Mode, ...] = ("dense", "hybrid")
            for mode in modes:
                searches = [{"query": query, "k": 10, "mode": mode} for query in queries]
                many_clients(server, "/search", searches, searching(retriever, queries, mode), options)


def searching(retriever: Retriever, queries: list[str], mode: Mode) -> Callable[[int], object]:
    """What finds the n-th query's hits in process."""
    return lambda number: retriever.retrieve(queries[number], mode=mode)


def all_cores() -> dict[str, str]:
    """The environment in which a server computes on all cores; tests keep theirs on one."""
    return {"OMP_NUM_THREADS": str(os.cpu_count())}


def make_queries() -> list[str]:
    """Questions of 4 to 14 words; always the same ones."""
    return [" ".join(text.split()[: 4 + number % 11]) for number, text in enumerate(make_texts(1000))]


def describe(encoder: Encoder, queries: list[str]) -> None:
    counts = encoder.encode_counted(queries, instruction=encoder.settings.query_instruction).token_counts
    has = torch.cpu.get_capabilities()
    flags = " ".join(name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if has.get(name))
    size = sum(weight.numel() for weight in encoder.model.parameters()) / 1e6
    print(
        f"encoder of {size:.0f} M parameters in {encoder.dtype}; queries of {int(np.median(counts))} tokens (median); "
        f"{os.cpu_count()} cores, shared by server and clients: {flags}"
    )


class RandomVectors:
    """Takes an encoder's place while an index is filled: its vectors cost nothing."""

    def __init__(self, encoder: Encoder) -> None:
        self.settings, self.source = encoder.settings, encoder.source
        self.fingerprint, self.dimension = encoder.fingerprint, encoder.dimension
        self._draw = np.random.default_rng(0)

    def encode_documents(self, texts: Sequence[str], **_: object) -> np.ndarray:
        vectors: np.ndarray = self._draw.standard_normal((len(texts), self.dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def build_index(path: Path, encoder: Encoder, count: int) -> Path:
    """An index of random vectors and texts of the sample corpus' words."""
    texts = make_texts(count)
    with Index.create(path, encoder=cast("Encoder", RandomVectors(encoder))) as index:
        index.add(Document(str(number), text) for number, text in enumerate(texts))
    return path


def one_client(server: Server, retriever: Retriever, queries: list[str]) -> None:
    """Print the latency of a warm single query, over HTTP and in process, in turns."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for mode in ("hybrid", "dense"):
        seconds: dict[str, list[float]] = {"in process": [], "over HTTP": []}
        for query in queries[:ROUNDS]:
            time.sleep(PAUSE)
            start = time.perf_counter()
            retriever.retrieve(query, 10, mode=mode)
            seconds["in process"].append(time.perf_counter() - start)
            time.sleep(PAUSE)
            start = time.perf_counter()
            body = json.dumps({"query": query, "k": 10, "mode": mode})
            connection.request("POST", "/search", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert len(json.loads(answer.read())["hits"]) == 10
            seconds["over HTTP"].append(time.perf_counter() - start)
        middle = {name: statistics.median(times[20:]) for name, times in seconds.items()}
        print(
            f"one client, {mode}, {len(retriever.index):,} documents: in process p50 {middle['in process'] * 1e3:.1f} ms, "
            f"over HTTP p50 {middle['over HTTP'] * 1e3:.1f} ms: {middle['over HTTP'] / middle['in process']:.2f} times"
        )


def searched_together(retriever: Retriever, queries: list[str], vectors: np.ndarray) -> None:
    """Print the CPU time of a search alone and together with others, as the server does those that wait, in turns."""
    modes: tuple[Mode, ...] = ("hybrid", "dense")
    for mode in modes:
        spent: dict[str, list[float]] = {"alone": [], "together": []}
        for start in range(0, 10 * MOST_TOGETHER, MOST_TOGETHER):
            rows = range(start, start + MOST_TOGETHER)
            began = time.process_time()
            alone = [retriever.answer(Request(query=queries[row], vector=vectors[row], mode=mode)) for row in rows]
            middle = time.process_time()
            these = slice(start, start + MOST_TOGETHER)
            assert retriever.answer_many(Request(mode=mode), queries[these], vectors[these]) == alone
            spent["alone"].append(middle - began)
            spent["together"].append(time.process_time() - middle)
        one, many = (1e3 * statistics.median(seconds) / MOST_TOGETHER for seconds in spent.values())
        what = f"alone {one:.2f} CPU-ms, {MOST_TOGETHER} together {many:.2f} each: {one / many:.2f} times"
        print(f"{mode} search of an encoded query: {what}")


def many_clients(
    server: Server, path: str, bodies: list[dict[str, Any]], alone: Callable[[int], object], options: argparse.Namespace
) -> None:
    """Print throughput and latency of many clients at once, against the same work for one query after another."""
    jobs, batches = (server.metric(f"ragvec_batch_requests_{what}") for what in ("sum", "count"))
    rates, single, one, latencies = [], [], [], []
    for _ in range(MANY_ROUNDS):
        single.append(one_at_a_time(alone, len(bodies), options.seconds / 2))
        one.append(len(ask(server.port, path, bodies, 1, options.seconds / 2)) / (options.seconds / 2))
        latencies.append(ask(server.port, path, bodies, options.clients, options.seconds))
        rates.append(len(latencies[-1]) / options.seconds)
    share = (server.metric("ragvec_batch_requests_sum") - jobs) / (server.metric("ragvec_batch_requests_count") - batches)
    p50, p99 = np.percentile(np.concatenate(latencies), (50, 99)) * 1e3
    ratio, over_http = (
        statistics.median(rate / slow for rate, slow in zip(rates, slower, strict=True)) for slower in (single, one)
    )
    what = f"{path} {bodies[0]['mode']}" if "mode" in bodies[0] else path
    print(
        f"{what}: one at a time in process {statistics.median(single):.0f} queries/s, over HTTP {statistics.median(one):.0f}; "
        f"{options.clients} clients {statistics.median(rates):.0f} queries/s, {ratio:.2f} and {over_http:.2f} times; "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms: {p99 / p50:.2f} times; {share:.1f} requests a batch"
    )


def one_at_a_time(work: Callable[[int], object], count: int, seconds: float) -> float:
    """Calls a second of `work`, which is given a number below `count`, one after another."""
    start = time.perf_counter()
    for done, number in enumerate(cycle(range(count)), 1):
        work(number)
        if time.perf_counter() > start + seconds:
            return done / (time.perf_counter() - start)
    raise AssertionError("a cycle does not end")


def ask(port: int, path: str, bodies: list[dict[str, Any]], clients: int, seconds: float) -> np.ndarray:
    """Seconds of each answer to so many clients at once."""
    command = [sys.executable, "-m", "tests.bench.load", str(port), path]
    command += ["--clients", str(clients), "--seconds", str(seconds)]
    lines = "".join(json.dumps(body) + "\n" for body in bodies)
    ran = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return np.array(json.loads(ran.stdout))


if __name__ == "__main__":
    main()
