"""The server against the same work in process, as ratios in the same run.

    python -m tests.bench.serve [--encoder ENCODER] [--documents 60000] [--clients 64] [--seconds 10]

Many clients: queries a second of POST /v1/embeddings from so many at once, against encoding the same queries one at a time in
process; p50 and p99 of their latency. One client: POST /search over an index of so many documents (random vectors, words of
the sample corpus), hybrid and dense, against encoding and searching in process, in turns.
"""

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve import Retriever
from tests.bench.encode import make_texts
from tests.serving import Server, serving
from tests.test_serve_process import post_head

ROUNDS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", help="default: the bundled one")
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--as-clients", metavar="PORT", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    queries = make_queries()
    if options.as_clients:
        print(json.dumps(asyncio.run(clients(options.as_clients, options.clients, options.seconds, queries))))
        return
    encoder = Encoder.load(options.encoder)
    describe(encoder, queries)
    with tempfile.TemporaryDirectory() as folder:
        path = build_index(Path(folder) / "index", encoder, options.documents)
        more = ["-e", options.encoder] if options.encoder else []
        cores = {"OMP_NUM_THREADS": str(os.cpu_count())}
        with serving("-i", path, *more, cwd=Path(folder), environment=cores) as server:
            one_client(server, path, encoder, queries, options.documents)
            many_clients(server, encoder, queries, options)


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

    def encode_documents(self, texts, **_) -> np.ndarray:
        vectors = self._draw.standard_normal((len(texts), self.dimension), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build_index(path: Path, encoder: Encoder, count: int) -> Path:
    """An index of random vectors and texts of the sample corpus' words."""
    texts = make_texts(count)
    with Index.create(path, encoder=RandomVectors(encoder)) as index:
        index.add(Document(str(number), text) for number, text in enumerate(texts))
    return path


def one_client(server: Server, path: Path, encoder: Encoder, queries: list[str], documents: int) -> None:
    """Print the latency of a warm single query, over HTTP and in process, in turns."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with Index.open(path) as index:
        retriever = Retriever(index, encoder)
        for mode in ("hybrid", "dense"):
            seconds: dict[str, list[float]] = {"in process": [], "over HTTP": []}
            for query in queries[:ROUNDS]:
                start = time.perf_counter()
                retriever.retrieve(query, 10, mode=mode)
                seconds["in process"].append(time.perf_counter() - start)
                start = time.perf_counter()
                body = json.dumps({"query": query, "k": 10, "mode": mode})
                connection.request("POST", "/search", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                assert len(json.loads(answer.read())["hits"]) == 10
                seconds["over HTTP"].append(time.perf_counter() - start)
            middle = {name: statistics.median(times[20:]) for name, times in seconds.items()}
            print(
                f"one client, {mode}, {documents:,} documents: in process p50 {middle['in process'] * 1e3:.1f} ms, "
                f"over HTTP p50 {middle['over HTTP'] * 1e3:.1f} ms: {middle['over HTTP'] / middle['in process']:.2f} times"
            )


def many_clients(server: Server, encoder: Encoder, queries: list[str], options: argparse.Namespace) -> None:
    """Print throughput and latency of many clients at once, against encoding one query after another."""
    start = time.perf_counter()
    done = 0
    for query in cycle(queries):
        encoder.encode_queries([query])
        done += 1
        if time.perf_counter() > start + options.seconds / 2:
            break
    alone = done / (time.perf_counter() - start)
    words = ["--as-clients", str(server.port), "--clients", str(options.clients), "--seconds", str(options.seconds)]
    ran = subprocess.run([sys.executable, "-m", "tests.bench.serve", *words], stdout=subprocess.PIPE, text=True, check=True)
    latencies = np.array(json.loads(ran.stdout))
    rate = len(latencies) / options.seconds
    p50, p99 = np.percentile(latencies, (50, 99)) * 1e3
    share = server.metric("ragvec_batch_requests_sum") / server.metric("ragvec_batch_requests_count")
    print(
        f"one at a time in process: {alone:.0f} queries/s\n"
        f"{options.clients} clients over HTTP: {rate:.0f} queries/s, {rate / alone:.2f} times; "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms: {p99 / p50:.2f} times; {share:.1f} requests a batch"
    )


async def clients(port: int, count: int, seconds: float, queries: list[str]) -> list[float]:
    """Seconds of each request of `count` clients, each with a connection of its own; the first second is warm-up."""
    begin = time.perf_counter() + 1.0
    latencies: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for query in cycle(queries[number::count]):
            body = json.dumps({"input": query, "input_type": "query", "encoding_format": "base64"}).encode()
            start = time.perf_counter()
            writer.write(post_head("/v1/embeddings", len(body)) + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = next(int(line[15:]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(length)
            now = time.perf_counter()
            if now > begin + seconds:
                break
            if start > begin:
                latencies.append(now - start)
        writer.close()

    await asyncio.gather(*map(client, range(count)))
    return latencies


if __name__ == "__main__":
    main()
