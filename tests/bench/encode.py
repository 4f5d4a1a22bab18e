"""How fast passages of mixed lengths are encoded, as ratios against the alternatives in the same run.

    python -m tests.bench.encode                     the bundled encoder
    python -m tests.bench.encode --shape 1024x4      random weights: hidden size x layers
    python -m tests.bench.encode --model FOLDER      any decoder checkpoint

Against: a plain transformers loop (batches of 32 in corpus order, padded, float32), and sentence-transformers at its defaults
where it is installed. Prints tokens/s counting real tokens only, and ragvec's share of the measured matrix-multiply peak.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ragvec import Encoder
from ragvec.data import data_path

PEAK_SIZE = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=data_path("encoder"))
    parser.add_argument("--shape", help="hidden size x layers, e.g. 1024x4: random weights with the model's tokenizer")
    parser.add_argument("--passages", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int)
    options = parser.parse_args()
    texts = make_texts(options.passages)
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), options.model, options.shape) if options.shape else options.model
        encoder = Encoder.load(model, device="cpu", batch_tokens=options.batch_tokens)
        contenders = {"ragvec": lambda: encoder.encode_documents(texts), "transformers loop": plain_loop(model, texts)}
        if (theirs := sentence_transformers(model, texts)) is not None:
            contenders["sentence-transformers"] = theirs
        report(encoder, texts, measure(contenders, options.rounds))


def make_texts(count: int) -> list[str]:
    """Passages of log-normal length (median 60 words, 9 to 400) out of the sample corpus' words; always the same ones."""
    rows = data_path("corpus.jsonl").read_text(encoding="utf-8").splitlines()
    words = [word for row in rows for word in json.loads(row)["text"].split()]
    draw = random.Random(0)
    lengths = [min(max(int(draw.lognormvariate(4.1, 0.8)), 9), 400) for _ in range(count)]
    return [" ".join(draw.choices(words, k=length)) for length in lengths]


def random_model(folder: Path, tokenizer_from: Path, shape: str) -> Path:
    """A Llama of the given shape with random weights, saved with an existing tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    hidden, layers = (int(number) for number in shape.split("x"))
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_from)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 128,
    )
    LlamaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain_loop(model: Path, texts: list[str]) -> Callable[[], np.ndarray]:
    """What a script written from the documentation does."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    network = AutoModel.from_pretrained(model, dtype=torch.float32).eval()

    def encode() -> np.ndarray:
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(texts), 32):
                batch = tokenizer(
                    texts[start : start + 32], padding=True, truncation=True, max_length=512, return_tensors="pt",
                    return_token_type_ids=False,
                )  # fmt: skip
                hidden = network(**batch).last_hidden_state
                mask = batch["attention_mask"][..., None]
                vectors.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(vectors)

    return encode


def sentence_transformers(model: Path, texts: list[str]) -> Callable[[], np.ndarray] | None:
    """sentence-transformers with mean pooling at its defaults, or None where it is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer
    except ImportError:
        print("sentence-transformers is not installed: pip install sentence-transformers")
        return None
    network = Transformer(str(model))
    network.tokenizer.pad_token = network.tokenizer.pad_token or network.tokenizer.eos_token
    ready = SentenceTransformer(modules=[network, Pooling(network.get_word_embedding_dimension())], device="cpu")
    return lambda: ready.encode(texts)


def measure(contenders: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, in turns, after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, encode in contenders.items():
            start = time.perf_counter()
            encode()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(encoder: Encoder, texts: list[str], seconds: dict[str, list[float]]) -> None:
    counts = encoder.encode_counted(texts, instruction="").token_counts
    tokens = int(counts.sum())
    has = torch.cpu.get_capabilities()
    flags = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if has.get(name)]
    print(f"{len(texts)} passages, {tokens} tokens (median {int(np.median(counts))}, longest {counts.max()}); "
          f"hidden size {encoder.dimension}; {torch.get_num_threads()} threads; CPU: {' '.join(flags)}")  # fmt: skip
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        ratio = statistics.median(b / a for a, b in zip(seconds["ragvec"], seconds[name], strict=True))
        note = f"({encoder.dtype})" if name == "ragvec" else f"ragvec is {ratio:.2f} times as fast"
        print(f"{name:22s} {tokens / median:10.0f} tokens/s  {note}")
    done = flops(encoder, counts) / medians["ragvec"]
    peak = matmul_peak(encoder.model.dtype, encoder.dimension)
    print(
        f"{'share of peak':22s} {done / peak:10.0%}           ({done / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s in {encoder.dtype})"
    )


def flops(encoder: Encoder, counts: np.ndarray) -> float:
    """Floating-point operations of a forward pass over real tokens: 2 per weight, and attention's two products."""
    weights = sum(weight.numel() for name, weight in encoder.model.named_parameters() if "embed" not in name)
    config = encoder.model.config
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    return 2.0 * weights * counts.sum() + 4.0 * config.num_hidden_layers * width * (counts.astype(float) ** 2).sum()


def matmul_peak(dtype: torch.dtype, hidden: int) -> float:
    """FLOP/s of a (2048, h) by (h, 4h) product in this dtype, the best of many."""
    a, b = torch.randn(PEAK_SIZE, hidden).to(dtype), torch.randn(hidden, 4 * hidden).to(dtype)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * PEAK_SIZE * hidden * 4 * hidden / min(times)


if __name__ == "__main__":
    main()
