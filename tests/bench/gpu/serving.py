"""One query, and a few at once, on a large encoder: plainly, and by recorded passes (CUDA graphs)."""

import statistics
import time
from functools import partial

from tests.bench.gpu.bench import Bench, encoder_around, random_model

ROUNDS, DRY_ROUNDS = 30, 2
SIZES = (1, 8)


def serve_8b(bench: Bench) -> None:
    """Milliseconds from token ids to vectors, median and longest, and whether both ways find the same."""
    import numpy as np

    from ragvec.encoder.graphs import Graphs, cuda_capture
    from tests.bench.encode import make_texts

    model, tokenizer = random_model(bench, "8b")
    encoder = encoder_around(model, tokenizer, None)
    graphs = Graphs(encoder, (lambda run, pool: run) if bench.dry else partial(cuda_capture, encoder.device))
    texts = [" ".join(text.split()[:12]) for text in make_texts(max(SIZES))]
    for size in SIZES:
        prompts = encoder.prompts.build(texts[:size], "Find what answers the question:")
        vectors = {}
        for way, encode in {"plain": encoder.encode_prompts, "graphs": graphs.encode_prompts}.items():
            for _ in range(2):
                vectors[way] = encode(prompts)
            times = []
            for _ in range(DRY_ROUNDS if bench.dry else ROUNDS):
                start = time.perf_counter()
                encode(prompts)
                times.append(1e3 * (time.perf_counter() - start))
            figures = {"tokens": sum(map(len, prompts.ids)), "median ms": statistics.median(times), "longest ms": max(times)}
            bench.figures.put("serving, 8b", {f"{size} texts, {way}": figures})
        some, others = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors.values())
        least = float((some * others).sum(axis=1).min())
        bench.figures.put("serving, 8b", {f"{size} texts, least cosine of the two": least, "graphs work": graphs.works})
