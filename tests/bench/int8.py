"""How fast layers are with int8 weights and inputs, as a ratio to bfloat16 in the same run, one thread.

    python -m tests.bench.int8                       hidden size 1,024
    python -m tests.bench.int8 --shape 384x2 --tokens 512 2048

Two models of the same random weights take turns at packed batches of texts of 128 tokens; printed are the fastest turn's CPU
microseconds a token, and the median of the turns' ratios. `ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI` does without AMX, for both.
"""

import argparse
import statistics
import time

import torch
from transformers import LlamaConfig, LlamaModel

from ragvec.encoder.attention import packed_inputs, use_packed_attention
from ragvec.encoder.bidirectional import make_bidirectional
from ragvec.encoder.int8 import use_int8_weights, watched_inputs
from tests.bench.encode import shape

LENGTH, VOCABULARY = 128, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="1024x2", help="hidden size x layers")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048], help="of a batch")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        models = {"bfloat16": random_layers(options.shape), "int8": random_layers(options.shape)}
        with watched_inputs(models["int8"]) as inputs:
            models["int8"](**batch(512))
        print(f"largest layer: {use_int8_weights(models['int8'], inputs):.2f} times as fast as in bfloat16")
        for tokens in options.tokens:
            report(tokens, turns(models, batch(tokens), options.rounds))


def random_layers(name: str) -> LlamaModel:
    """A bidirectional Llama of random weights, always the same ones."""
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**shape(name, VOCABULARY))).bfloat16().eval()
    make_bidirectional(model)
    use_packed_attention(model)
    return model


def batch(tokens: int) -> dict[str, object]:
    return packed_inputs([torch.randint(0, VOCABULARY, (LENGTH,)).tolist() for _ in range(tokens // LENGTH)])


def turns(models: dict[str, LlamaModel], inputs: dict[str, object], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each model's turns, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            start = time.thread_time()
            model(**inputs)
            seconds[name].append(time.thread_time() - start)
    return {name: times[1:] for name, times in seconds.items()}


def report(tokens: int, seconds: dict[str, list[float]]) -> None:
    ratio = statistics.median(plain / small for plain, small in zip(seconds["bfloat16"], seconds["int8"], strict=True))
    each = ", ".join(f"{name} {min(times) / tokens * 1e6:.0f}" for name, times in seconds.items())
    print(f"{tokens:,} tokens: {each} microseconds a token; int8 is {ratio:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
