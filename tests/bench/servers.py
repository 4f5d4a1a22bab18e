"""Embedding servers that already run on this machine, in turns: answers a second and latency, from many clients and from one.

    ragvec serve -e MODEL --port 8311 &
    infinity_emb v2 --model-id MODEL --device cpu --port 8310 &
    python -m tests.bench.servers ragvec=8311/v1/embeddings infinity=8310/embeddings --model MODEL

The same queries for all, one text a request, in the form of the OpenAI client; the clients are tests.bench.load.
"""

import argparse
import statistics

import numpy as np

from tests.bench.serve import MANY_ROUNDS, ask, make_queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="+", help="NAME=PORT/PATH")
    parser.add_argument("--model", default="", help="name of the model in the requests")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    bodies = [{"model": options.model, "input": query, "encoding_format": "base64"} for query in make_queries()]
    print("| | clients | answers/s | p50 ms | p99 ms |")
    print("|---|---|---|---|---|")
    for clients in (options.clients, 1):
        seconds: dict[str, list[np.ndarray]] = {}
        for _ in range(MANY_ROUNDS):
            for server in options.server:
                name, _, place = server.partition("=")
                port, _, path = place.partition("/")
                seconds.setdefault(name, []).append(ask(int(port), f"/{path}", bodies, clients, options.seconds))
        for name, rounds in seconds.items():
            rate = statistics.median(len(taken) / options.seconds for taken in rounds)
            p50, p99 = np.percentile(np.concatenate(rounds), (50, 99)) * 1e3
            print(f"| {name} | {clients} | {rate:,.0f} | {p50:.1f} | {p99:.1f} |", flush=True)


if __name__ == "__main__":
    main()
