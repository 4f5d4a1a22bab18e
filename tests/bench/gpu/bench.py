"""What the steps share: the device and its clock, random models of a shape, encoders around them, one pass over texts."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.gpu.figures import Figures

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ragvec import Encoder

ROOT = Path(__file__).resolve().parents[3]
DRY_SHAPES = {"8b": "128x2", "1.3b": "128x1"}
DRY_PEAK = 1e12  # FLOP/s, so that a share of it is a number


@dataclass(frozen=True)
class Bench:
    """Where figures go, a folder for models, and whether this is a dry run: on the CPU, with tiny shapes."""

    figures: Figures
    work: Path
    dry: bool

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    def left(self) -> float:
        """Seconds until the step must be done."""
        return float(os.environ.get("GPU_BENCH_ENDS", "inf")) - time.time()

    def wait(self) -> None:
        """Until the GPU has done what it was told."""
        import torch

        if not self.dry:
            torch.cuda.synchronize()

    def forget_peak(self) -> None:
        """From now on `peak_gib` counts anew."""
        import torch

        if not self.dry:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float:
        """The most memory that was in use at once, GiB."""
        import torch

        return 0.0 if self.dry else torch.cuda.max_memory_allocated() / 2**30

    def seconds(self, work: Callable[[], object]) -> float:
        """How long it takes, everything queued included."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def median_seconds(self, work: Callable[[], object], repeats: int = 5) -> float:
        """The median after one to warm up."""
        work()
        return statistics.median(self.seconds(work) for _ in range(repeats))


def make_importable() -> None:
    """Let `ragvec.cli` and `ragvec.data` be found in a checkout, where an installation would map their folders."""
    import ragvec

    if str(ROOT) not in ragvec.__path__:
        ragvec.__path__.append(str(ROOT))


def random_model(bench: Bench, name: str, *, head: bool = False) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A Llama of a shape with random weights, made where it runs, and the bundled tokenizer; bfloat16 on a GPU."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaModel

    from ragvec.data import data_path
    from tests.bench.encode import shape

    tokenizer = AutoTokenizer.from_pretrained(data_path("encoder"))
    config = LlamaConfig(max_position_embeddings=2048, **shape(DRY_SHAPES[name] if bench.dry else name, len(tokenizer)))
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if bench.dry else torch.bfloat16)
    try:
        with torch.device(bench.device):
            model = (LlamaForCausalLM if head else LlamaModel)(config)
    finally:
        torch.set_default_dtype(torch.float32)
    return model.eval(), tokenizer


def encoder_around(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", batch_tokens: int | None) -> "Encoder":
    """A bidirectional encoder of a loaded model; the model is not copied."""
    from ragvec import Encoder
    from ragvec.encoder.ready import complete, prepare_attention
    from ragvec.encoder.settings import EncoderSettings

    settings = prepare_attention(model, complete(EncoderSettings(), model, tokenizer))
    return Encoder(model, tokenizer, settings, source="random", fingerprint="0" * 32, batch_tokens=batch_tokens)


def counts_of(encoder: "Encoder", texts: list[str]) -> "np.ndarray":
    """The tokens of each text as it is encoded, (n,) int."""
    import numpy as np

    return np.array([len(ids) for ids in encoder.prompts.build(texts, "").ids])


def one_pass(bench: Bench, encoder: "Encoder", texts: list[str]) -> float:
    """Seconds to encode texts as bulk work does, without files."""
    from tests.bench.encode import in_blocks

    return bench.seconds(lambda: in_blocks(encoder, texts))
