"""Encoding: tokens/s, MFU, memory and idle share of a shape, over budgets, compiled, and against the alternatives."""

import copy
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tests.bench.gpu.bench import DRY_PEAK, Bench, counts_of, encoder_around, one_pass, random_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ragvec import Encoder

BUDGET, DRY_BUDGET = 32_768, 2_048
BUDGETS = (16_384, 65_536, 131_072)
KERNELS = {"matrix products": r"gemm|cutlass|nvjet|xmma|wgmma|cublas", "attention": r"flash|fmha|attn|attention",
           "copies": r"memcpy|memset"}  # fmt: skip
LOOP_BATCH, LOOP_LENGTH = 32, 512


def encode_8b(bench: Bench) -> None:
    """The shape of Llama 3 8B."""
    encode_shape(bench, "8b", passages=2_048)


def encode_1b(bench: Bench) -> None:
    """A shape of 1.3 billion weights."""
    encode_shape(bench, "1.3b", passages=4_096)


def encode_shape(bench: Bench, name: str, passages: int) -> None:
    """Every figure of a shape; one model, whose weights all contenders use."""
    from ragvec.encoder.speed import Speed
    from tests.bench.encode import make_texts

    section = f"encoding, {name}"
    model, tokenizer = random_model(bench, name)
    texts = make_texts(12 if bench.dry else passages)
    budget = DRY_BUDGET if bench.dry else BUDGET
    encoder = encoder_around(model, tokenizer, budget)
    speed = Speed(encoder)
    peak = DRY_PEAK if bench.dry else speed.peak

    def measure(row: str, batch_tokens: int, some: list[str], encode: Callable[[list[str]], float] | None = None) -> None:
        """One warm-up over an eighth, then one pass; no time left is said, too."""
        if bench.left() < 12:
            bench.figures.put(section, {row: {"not measured": "no time left"}})
            return
        run = encode or (lambda part: one_pass(bench, encoder_around(model, tokenizer, batch_tokens), part))
        try:
            bench.forget_peak()
            run(some[: max(len(some) // 8, 4)])
            seconds, counts = run(some), counts_of(encoder, some)
        except Exception as error:  # one figure less
            bench.figures.failed(section, row, error)
            return
        tokens = int(counts.sum())
        bench.figures.put(section, {row: {"tokens": tokens, "seconds": seconds, "tokens/s": tokens / seconds,
            "MFU": speed.flops(counts) / seconds / peak, "GiB": bench.peak_gib()}})  # fmt: skip

    measure("ragvec, 32k tokens a batch", budget, texts)
    profile(bench, section, encoder, texts[: len(texts) // 4])
    for row, make in ALTERNATIVES.items():
        measure(row, budget, texts[: len(texts) // 4], partial(make, bench, model, encoder))
    restore(model)
    for size in BUDGETS:
        measure(f"ragvec, {size // 1024}k", size // 16 if bench.dry else size, texts[: len(texts) // 2])
    if not bench.dry and bench.left() > 40:
        compiled(bench, section, encoder, texts)
        measure("ragvec, compiled, 32k", budget, texts[: len(texts) // 2], partial(one_pass, bench, encoder))
        profile(bench, f"{section}, compiled", encoder, texts[: len(texts) // 8])


def compiled(bench: Bench, section: str, encoder: "Encoder", texts: list[str]) -> None:
    """Compile the layers, and say how long the first pass then takes."""
    from ragvec.encoder.ready import compile_layers

    try:
        compile_layers(encoder.model, True)
        seconds = one_pass(bench, encoder, texts[: max(len(texts) // 16, 4)])
        bench.figures.put(section, {"seconds to compile": round(seconds, 1)})
    except Exception as error:  # what keeps a compiler from running is a figure
        bench.figures.failed(section, "compiling", error)


def profile(bench: Bench, section: str, encoder: "Encoder", texts: list[str]) -> None:
    """Where the GPU's time goes, and the share of the wall clock in which it idles."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    if bench.left() < 20:
        return
    kinds = [ProfilerActivity.CPU] if bench.dry else [ProfilerActivity.CUDA]
    try:
        one_pass(bench, encoder, texts[:16])
        with record(activities=kinds, acc_events=True) as recorded:
            seconds = one_pass(bench, encoder, texts)
        spent, kernels = dict.fromkeys([*KERNELS, "everything else"], 0.0), 0
        for event in recorded.key_averages():
            if str(event.device_type).endswith("CUDA"):
                group = next((name for name, words in KERNELS.items() if re.search(words, event.key, re.I)), "everything else")
                spent[group] += event.self_device_time_total / 1e6
                kernels += event.count
        if not kernels:
            bench.figures.put(f"{section}: the GPU's time", {"not measured": "no kernel ran on a GPU"})
            return
        busy = sum(spent.values())
        shares = {name: one / busy for name, one in spent.items()}
        bench.figures.put(f"{section}: the GPU's time", {"shares of what is busy": shares, "all": {"seconds": seconds,
            "idle share": max(1 - busy / seconds, 0.0), "kernels": kernels}})  # fmt: skip
    except Exception as error:  # a profiler that can't be had costs one figure
        bench.figures.failed(f"{section}: the GPU's time", "profile", error)


def padded_loop(bench: Bench, model: "PreTrainedModel", encoder: "Encoder", texts: list[str]) -> float:
    """What a script written from transformers' documentation does: batches of 32 in corpus order, padded."""
    import torch

    tokenizer = own_tokenizer(encoder)
    model.set_attn_implementation("sdpa")

    def loop() -> None:
        with torch.inference_mode():
            for start in range(0, len(texts), LOOP_BATCH):
                batch = tokenizer(texts[start : start + LOOP_BATCH], padding=True, truncation=True, max_length=LOOP_LENGTH,
                                  return_tensors="pt", return_token_type_ids=False).to(bench.device)  # fmt: skip
                hidden = model(**batch, use_cache=False).last_hidden_state
                mask = batch["attention_mask"][..., None]
                ((hidden * mask).sum(1) / mask.sum(1)).float().cpu().numpy()

    return bench.seconds(loop)


def sentence_transformers(bench: Bench, model: "PreTrainedModel", encoder: "Encoder", texts: list[str]) -> float:
    """sentence-transformers with mean pooling at its defaults, over the same weights: a tiny model's are replaced by them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from tests.tiny import save_tiny_decoder

    folder = bench.work / "sentence-transformers"
    shutil.rmtree(folder, ignore_errors=True)
    save_tiny_decoder(folder, "llama")
    own_tokenizer(encoder).save_pretrained(folder)
    network = Transformer(str(folder))
    model.set_attn_implementation("sdpa")
    network.model = model
    network.tokenizer.pad_token = network.tokenizer.pad_token or network.tokenizer.eos_token
    ready = SentenceTransformer(modules=[network, Pooling(model.config.hidden_size)], device=bench.device)
    start = time.perf_counter()
    ready.encode(texts)
    return time.perf_counter() - start


ALTERNATIVES = {"transformers loop, 32 texts, padded": padded_loop, "sentence-transformers": sentence_transformers}


def own_tokenizer(encoder: "Encoder") -> "PreTrainedTokenizerBase":
    """A tokenizer that may pad: what is set on ragvec's own would reach its vectors."""
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def restore(model: "PreTrainedModel") -> None:
    """Packed attention again, after the alternatives."""
    from ragvec.encoder.attention import use_packed_attention

    use_packed_attention(model)
