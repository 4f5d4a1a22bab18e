"""How fast passages of mixed lengths are encoded, as ratios against the alternatives in the same run.

    python -m tests.bench.encode                       the bundled encoder, on all cores
    python -m tests.bench.encode --shape 1024x4 --threads 1    random weights: hidden size x layers
    python -m tests.bench.encode --device cuda --shape 8b      a GPU, with the shape of Llama 3 8B
    python -m tests.bench.encode --model FOLDER        any checkpoint that ragvec loads
    python -m tests.bench.encode --model FOLDER --python ENV/bin/python    ONNX and OpenVINO from another environment
    python -m tests.bench.encode --model FILE.gguf --python ENV/bin/python    llama.cpp (llama-cpp-python, xllamacpp)

Against a plain transformers loop (batches of 32 in corpus order, padded; float32 on a CPU, as it loads by default), and, where
they are installed, sentence-transformers at its defaults, its ONNX and OpenVINO backends (also in int8), and the reference
(llm2vec). On a GPU all compute in bfloat16, one model in memory at a time. Prints tokens/s counting real tokens only, and
ragvec's share of the peak: the data sheet's for a known GPU, else the measured matrix product's. The corpus is made from the
sample corpus' words and always the same.
"""

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ragvec import Encoder
from ragvec.artefacts import is_gguf
from ragvec.data import data_path
from ragvec.encoder.speed import Speed
from ragvec.errors import first_line

BATCH = 32
BLOCK = 4096
BACKENDS = ("onnx", "onnx-int8", "openvino", "openvino-int8")
LLAMA = "llama.cpp"
FEWEST_TRIALS, MOST_TRIALS = 2, 16  # passes over the texts until the token budget is found
SHAPES = {  # hidden, layers, feed-forward, heads, key-value heads, vocabulary
    "8b": (4096, 32, 14336, 32, 8, 128_256),
    "1.3b": (2048, 24, 5504, 16, 16, 32_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=data_path("encoder"))
    parser.add_argument("--shape", help=f"random weights: hidden size x layers, e.g. 1024x4, or {', '.join(SHAPES)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", help="ragvec's, on the CPU: float32, bfloat16, int8; default: what it chooses")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--python", default=sys.executable, help="of an environment for what is exported; default: this one")
    parser.add_argument("--passages", type=int, help="default: 256, on a GPU 4,096")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--compile", action="store_true", help="also with compiled layers")
    parser.add_argument("--only", action="store_true", help="ragvec alone")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    texts = make_texts(options.passages or (256 if options.device == "cpu" else 4096))
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), options) if options.shape or not options.model.exists() else options.model
        ours, seconds = ragvec(model, texts, options), {}
        seconds["ragvec"] = ours.seconds
        free(options.device)
        if options.compile:
            seconds["ragvec --compile"] = ragvec(model, texts, options, torch_compile=True).seconds
            free(options.device)
        if not options.only:
            seconds |= dict(alternatives(model, texts, options))
        report(ours, seconds)


class Measured(NamedTuple):
    """ragvec's seconds, and what was computed: tokens of each text, FLOP in all, the machine's peak, and a line about it."""

    seconds: list[float]
    counts: np.ndarray
    flops: float
    peak: float
    dtype: str
    line: str


def ragvec(model: Path, texts: list[str], options: argparse.Namespace, *, torch_compile: bool = False) -> Measured:
    """Time ragvec once it has found its token budget; its model is gone afterwards."""
    encoder = Encoder.load(
        model, device=options.device, dtype=options.dtype, batch_tokens=options.batch_tokens, torch_compile=torch_compile
    )
    find_budget(encoder, texts)
    seconds = timed(lambda: in_blocks(encoder, texts), options.rounds)
    counts, speed = encoder.encode_counted(texts, instruction="").token_counts, Speed(encoder)
    line = (
        f"{len(texts):,} passages, {int(counts.sum()):,} tokens (median {int(np.median(counts))}, longest {counts.max()}); "
        f"hidden size {encoder.dimension}; {where(encoder)}; {encoder.batch_tokens:,} tokens a batch"
    )
    return Measured(seconds, counts, speed.flops(counts), speed.peak, encoder.dtype, line)


def find_budget(encoder: Encoder, texts: list[str]) -> int:
    """Encode until no candidate of the token budget is left to try, or none can be on so few texts; returns the passes."""
    for passes in range(MOST_TRIALS):
        before = encoder.batch_tokens
        if not encoder._budget.is_open:
            return passes
        in_blocks(encoder, texts)
        if encoder.batch_tokens == before and passes >= FEWEST_TRIALS:
            return passes + 1
    return MOST_TRIALS


def free(device: str) -> None:
    """Give the memory of what is gone back, before the next model comes."""
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


def make_texts(count: int) -> list[str]:
    """Passages of log-normal length (median 60 words, 9 to 400) out of the sample corpus' words; always the same ones."""
    rows = data_path("corpus.jsonl").read_text(encoding="utf-8").splitlines()
    words = [word for row in rows for word in json.loads(row)["text"].split()]
    draw = random.Random(0)
    lengths = [min(max(int(draw.lognormvariate(4.1, 0.8)), 9), 400) for _ in range(count)]
    return [" ".join(draw.choices(words, k=length)) for length in lengths]


def random_model(folder: Path, options: argparse.Namespace) -> Path:
    """A Llama of the given shape with random weights, saved with an existing tokenizer, else a byte-level one."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    from tests.tiny import make_tokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model) if options.model.exists() else make_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(max_position_embeddings=2048, **shape(options.shape or "384x6", len(tokenizer)))
    dtype = torch.bfloat16 if options.device != "cpu" else torch.float32
    with torch.device(options.device):
        torch.set_default_dtype(dtype)
        model = LlamaModel(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return folder


def shape(name: str, vocabulary: int) -> dict[str, int]:
    """The configuration of a named shape, or of "hidden x layers"."""
    if name in SHAPES:
        hidden, layers, inner, heads, groups, size = SHAPES[name]
        vocabulary = max(size, vocabulary)
    else:
        hidden, layers = (int(number) for number in name.split("x"))
        inner, heads, groups = hidden * 8 // 3 // 64 * 64, hidden // 64, max(1, hidden // 128)
    return {
        "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": inner,
        "num_attention_heads": heads, "num_key_value_heads": groups,
    }  # fmt: skip


def in_blocks(encoder: Encoder, texts: list[str]) -> int:
    """What bulk encoding does, without files; returns the tokens encoded."""
    blocks = (texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK))
    return sum(int(encoded.token_counts.sum()) for encoded in encoder.encode_blocks(blocks, instruction=""))


def alternatives(model: Path, texts: list[str], options: argparse.Namespace) -> Iterator[tuple[str, list[float]]]:
    """Seconds of what else can encode these texts with these weights here, one model at a time; says what cannot, and why."""
    device, rounds, python = options.device, options.rounds, options.python
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "transformers loop": lambda: plain_loop(model, texts, device, dtype),
        "sentence-transformers": lambda: sentence_transformers(model, texts, device, dtype),
        "reference (llm2vec)": lambda: reference(model, texts, device, dtype),
    }
    measures = {name: partial(made, make, rounds) for name, make in makers.items()}
    if device == "cpu":
        others = {LLAMA: LLAMA} if is_gguf(model) else {f"s-t {backend}": backend for backend in BACKENDS}
        threads = torch.get_num_threads()
        measures |= {name: partial(exported, python, model, one, rounds, threads, texts) for name, one in others.items()}
    for name, measure in measures.items():
        try:
            yield name, measure()
        except Exception as error:  # whatever keeps another library from running here is its figure
            print(f"{name}: not measured: {first_line(error):.110}")
        free(device)


def plain_loop(model: Path, texts: list[str], device: str, dtype: torch.dtype) -> Callable[[], np.ndarray]:
    """What a script written from the documentation does."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    network = AutoModel.from_pretrained(model, dtype=dtype).eval().to(device)

    def encode() -> np.ndarray:
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                batch = tokenizer(
                    texts[start : start + BATCH], padding=True, truncation=True, max_length=512, return_tensors="pt",
                    return_token_type_ids=False,
                ).to(device)  # fmt: skip
                hidden = network(**batch).last_hidden_state
                mask = batch["attention_mask"][..., None]
                vectors.append(((hidden * mask).sum(1) / mask.sum(1)).float().cpu().numpy())
        return np.concatenate(vectors)

    return encode


def sentence_transformers(model: Path, texts: list[str], device: str, dtype: torch.dtype) -> Callable[[], np.ndarray]:
    """sentence-transformers with mean pooling at its defaults."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    network = Transformer(str(model), model_kwargs={"dtype": dtype})
    network.tokenizer.pad_token = network.tokenizer.pad_token or network.tokenizer.eos_token
    ready = SentenceTransformer(modules=[network, Pooling(network.get_embedding_dimension())], device=device)
    return lambda: ready.encode(texts)


def exported(python: str, *asked: object) -> list[float]:
    """Seconds of the same through ONNX Runtime, OpenVINO or llama.cpp, in an environment of its own (exported.py)."""
    *words, texts = asked
    command = [python, str(Path(__file__).with_name("exported.py")), *map(str, words)]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def reference(model: Path, texts: list[str], device: str, dtype: torch.dtype) -> Callable[[], object]:
    """The reference implementation, which needs an older transformers."""
    from llm2vec import LLM2Vec

    ready = LLM2Vec.from_pretrained(str(model), device_map=device, torch_dtype=dtype)
    return lambda: ready.encode(texts, batch_size=BATCH)


def made(make: Callable[[], Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of what is made first, and let go afterwards."""
    return timed(make(), rounds)


def timed(encode: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each round, after one warm-up."""
    seconds = []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        encode()
        if turn:
            seconds.append(time.perf_counter() - start)
    return seconds


def report(ours: Measured, seconds: dict[str, list[float]]) -> None:
    tokens, medians = int(ours.counts.sum()), {name: statistics.median(times) for name, times in seconds.items()}
    print(ours.line)
    for name, median in medians.items():
        note = f"({ours.dtype})" if name == "ragvec" else f"ragvec is {median / medians['ragvec']:.2f} times as fast"
        print(f"{name:22s} {tokens / median:10,.0f} tokens/s  {note}")
    done = ours.flops / medians["ragvec"]
    print(f"{'share of peak':22s} {done / ours.peak:10.0%}           "
          f"({done / 1e9:,.0f} of {ours.peak / 1e9:,.0f} GFLOP/s)")  # fmt: skip


def where(encoder: Encoder) -> str:
    """What computes."""
    if encoder.device.type == "cuda":
        return torch.cuda.get_device_name(encoder.device)
    has = torch.cpu.get_capabilities()
    flags = [name for name in ("avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8") if has.get(name)]
    return f"{torch.get_num_threads()} threads; CPU: {' '.join(flags)}"


if __name__ == "__main__":
    main()
