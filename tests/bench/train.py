"""How fast MNTP and contrastive steps are, as ratios against the alternatives in the same run.

    python -m tests.bench.train                  both; a random Llama of hidden size 384 with 6 layers
    python -m tests.bench.train --shape 768x4    another one
    python -m tests.bench.train --only mntp      one of them: mntp, contrastive
    python -m tests.bench.train --compile        MNTP with and without torch_compile
    OMP_NUM_THREADS=1 python -m tests.bench.train --cpu-time     CPU seconds, where other work would disturb the clock
    python -m tests.bench.train --model FOLDER   tokens/s of MNTP on a decoder, beside those of encoding with it
    python -m tests.bench.train --only attention the gradient of attention in bfloat16, beside torch's own

MNTP against the plain Hugging Face Trainer: the same LoRA, masks and batches of 32 texts, padded, logits at every position.
Contrastive against sentence-transformers' trainer: MultipleNegativesRankingLoss on triplets, every weight trained, batches of
32. Lengths are mixed (median 60 words, 9 to 400). Counted are whole steps, optimizer included, after two to warm up.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from ragvec.encoder.attention_gradient import attend
from ragvec.train import train
from ragvec.train.recipe import make_recipe
from tests.bench.encode import make_texts

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback, TrainingArguments

Triple = tuple[str, str, str]  # query, positive, negative
BATCH, STEPS, WARM_UP, MAX_LENGTH = 32, 8, 2, 512


def main() -> None:
    """Time each contender and print its steps per second beside ragvec's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="384x6", help="hidden size x layers")
    parser.add_argument("--only", choices=("mntp", "contrastive", "attention"))
    parser.add_argument("--model", type=Path, help="a decoder's folder: batches of 16 texts of 256 tokens, LoRA 16")
    parser.add_argument("--compile", action="store_true", help="MNTP against itself with torch_compile, nothing else")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU seconds instead of the clock's")
    options = parser.parse_args()
    Clock.now = time.process_time if options.cpu_time else time.perf_counter
    has = torch.cpu.get_capabilities()
    flags = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if has.get(name)]
    print(f"{options.shape}, batches of {BATCH}, {torch.get_num_threads()} threads; CPU: {' '.join(flags)}")
    if options.only == "attention":
        return compare_attention()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.model:
            return compare_with_encoding(options.model, folder)
        model = random_model(folder / "model", options.shape)
        if options.compile:
            texts = make_texts(BATCH * (STEPS + 1))
            compare("mntp", {
                "ragvec": lambda dtype: ragvec_mntp(model, texts, folder, dtype),
                "with torch_compile": lambda dtype: ragvec_mntp(model, texts, folder, dtype, torch_compile=True),
            })  # fmt: skip
            return
        if options.only != "contrastive":
            texts = make_texts(BATCH * (STEPS + 1))
            compare("mntp", {
                "ragvec": lambda dtype: ragvec_mntp(model, texts, folder, dtype),
                "plain Trainer, padded": lambda dtype: plain_mntp(model, texts, folder, dtype),
            })  # fmt: skip
        if options.only != "mntp":
            texts = make_texts(3 * BATCH * (STEPS + 1))
            triples = list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))
            compare("contrastive", {
                "ragvec": lambda dtype: ragvec_contrastive(model, triples, folder, dtype),
                "sentence-transformers": lambda dtype: their_contrastive(model, triples, folder, dtype),
            })  # fmt: skip


def compare(what: str, contenders: dict[str, Callable[[str], float]]) -> None:
    """Steps per second of each in float32 and, where the CPU has the instructions, in bfloat16."""
    has = torch.cpu.get_capabilities()
    for dtype in ("float32", *(["bfloat16"] if has.get("avx512_bf16") or has.get("amx_bf16") else [])):
        seconds = {name: run(dtype) for name, run in contenders.items()}
        for name, one in seconds.items():
            ratio = "" if name == "ragvec" else f"  ragvec is {one / seconds['ragvec']:.2f} times as fast"
            print(f"{what:12s} {dtype:9s} {name:24s} {1 / one:7.3f} steps/s{ratio}", flush=True)


def compare_attention() -> None:
    """Forward and backward of texts of several lengths: 9 heads of width 64, medians of 20."""
    for texts, length in ((1, 32), (8, 32), (1, 100), (4, 100), (1, 256), (4, 256), (1, 512)):
        states = [torch.randn(texts, 9, length, 64).bfloat16().requires_grad_() for _ in range(3)]
        grad = torch.randn(texts, 9, length, 64).bfloat16()
        ours = _median(partial(_there_and_back, partial(attend, scaling=0.125), states, grad))
        theirs = _median(partial(_there_and_back, scaled_dot_product_attention, states, grad))
        line = f"{texts} x {length:3d} tokens  {1000 * ours:.2f} ms, torch's {1000 * theirs:.2f}"
        print(f"{line}: {theirs / ours:.2f} times as fast")


def _there_and_back(attention: Callable[..., torch.Tensor], states: list[torch.Tensor], grad: torch.Tensor) -> None:
    attention(*states).backward(grad)


def _median(run: Callable[[], None], count: int = 20) -> float:
    found = []
    for _ in range(count):
        start = Clock.now()
        run()
        found.append(Clock.now() - start)
    return statistics.median(found)


def compare_with_encoding(model: Path, folder: Path) -> None:
    """Tokens per second of MNTP steps of 16 texts of 256 tokens, and of encoding such texts."""
    from ragvec import Encoder

    encoder = Encoder.load(model, dtype="bfloat16")
    long = " ".join(make_texts(400))
    ids = encoder.tokenizer(long, add_special_tokens=False)["input_ids"]
    texts = [encoder.tokenizer.decode(ids[start : start + 250]) for start in range(0, 250 * 16 * (STEPS + 1), 250)]
    (folder / "texts.json").write_text(json.dumps([{"text": text} for text in texts]))
    keys = {"mask_token_type": "blank", "per_device_train_batch_size": 16, "max_seq_length": 256}
    step = ragvec_seconds("mntp", model, folder / "texts.json", folder, "bfloat16", **keys)
    encoder.encode_documents(texts[:16])
    start = Clock.now()
    encoder.encode_documents(texts[:64])
    encoding = (Clock.now() - start) / 4
    rates = f"MNTP {16 * 256 / step:.0f} tokens/s, encoding {16 * 256 / encoding:.0f}"
    print(f"{rates}: a step costs {step / encoding:.2f} forwards")


class Clock:
    """Ends of steps; seconds_a_step leaves the first ones out."""

    now = time.perf_counter

    def __init__(self) -> None:
        self._ends: list[float] = []

    def step_ended(self, *_: object, **__: object) -> None:
        """To be called at the end of each step."""
        self._ends.append(Clock.now())

    def seconds_a_step(self) -> float:
        """The mean of the steps after the warm-up."""
        assert len(self._ends) >= STEPS, "a run was shorter than planned"
        return (self._ends[STEPS - 1] - self._ends[WARM_UP - 1]) / (STEPS - WARM_UP)


def ragvec_mntp(model: Path, texts: list[str], folder: Path, dtype: str, **more: Any) -> float:
    """Seconds of a step of `ragvec train mntp`."""
    (folder / "texts.json").write_text(json.dumps([{"text": text} for text in texts]))
    keys = {"line_by_line": True, "mask_token": "~", **more}
    return ragvec_seconds("mntp", model, folder / "texts.json", folder, dtype, **keys)


def ragvec_contrastive(model: Path, triples: list[Triple], folder: Path, dtype: str) -> float:
    """Seconds of a step of `ragvec train supervised` that trains every weight."""
    names = ("query", "positive", "negative")
    rows = [dict(zip(names, triple, strict=True)) for triple in triples]
    (folder / "triples.json").write_text(json.dumps(rows))
    return ragvec_seconds("supervised", model, folder / "triples.json", folder, dtype, lora_r=0, warmup_steps=0)


def ragvec_seconds(objective: str, model: Path, data: Path, folder: Path, dtype: str, **keys: Any) -> float:
    """Seconds of a step, told by the lines that a run reports."""
    recipe, _ = make_recipe(objective, {
        "model_name_or_path": str(model), "train_file": str(data), "output_dir": str(folder / "out"), "device": "cpu",
        "overwrite_output_dir": True, "per_device_train_batch_size": BATCH, "max_steps": STEPS, "logging_steps": 1,
        "max_seq_length": MAX_LENGTH, "torch_dtype": dtype, **keys,
    })  # fmt: skip
    clock = Clock()
    train(recipe, report=lambda line: clock.step_ended() if line.startswith("step ") else None)
    return clock.seconds_a_step()


def plain_mntp(model: Path, texts: list[str], folder: Path, dtype: str) -> float:
    """Seconds of a step of what a script written from the documentation does."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer

    from ragvec.encoder.bidirectional import make_bidirectional

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token, tokenizer.mask_token = tokenizer.eos_token, "~"
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    make_bidirectional(network.base_model)
    network = get_peft_model(network, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"))
    rows = [tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_token_type_ids=False) for text in texts]
    clock = Clock()
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    return _seconds(Trainer(network, _arguments(folder, dtype), collator, rows, callbacks=[_callback(clock)]), clock)


def their_contrastive(model: Path, triples: list[Triple], folder: Path, dtype: str) -> float:
    """Seconds of a step of sentence-transformers' trainer."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.models import Pooling, Transformer

    network = Transformer(str(model), max_seq_length=MAX_LENGTH)
    network.tokenizer.pad_token = network.tokenizer.eos_token
    student = SentenceTransformer(modules=[network, Pooling(network.get_word_embedding_dimension())], device="cpu")
    columns = dict(zip(("anchor", "positive", "negative"), zip(*triples, strict=True), strict=True))
    clock = Clock()
    trainer = SentenceTransformerTrainer(
        student, _arguments(folder, dtype, SentenceTransformerTrainingArguments), Dataset.from_dict(columns),
        loss=MultipleNegativesRankingLoss(student), callbacks=[_callback(clock)],
    )  # fmt: skip
    return _seconds(trainer, clock)


def _seconds(trainer: "Trainer", clock: Clock) -> float:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.seconds_a_step()


def _arguments(folder: Path, dtype: str, kind: "type[TrainingArguments] | None" = None) -> "TrainingArguments":
    from transformers import TrainingArguments

    return (kind or TrainingArguments)(
        output_dir=str(folder / "plain"), per_device_train_batch_size=BATCH, max_steps=STEPS, use_cpu=True, report_to="none",
        save_strategy="no", bf16=dtype == "bfloat16", disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip


def _callback(clock: Clock) -> "TrainerCallback":
    from transformers import TrainerCallback

    class StepEnds(TrainerCallback):
        on_step_end = clock.step_ended

    return StepEnds()


def random_model(folder: Path, shape: str) -> Path:
    """A Llama of the given shape with random weights and a tokenizer of 8,192 pieces made for the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(make_texts(512), trainers.BpeTrainer(
        vocab_size=8192, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False,
    ))  # fmt: skip
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    hidden, layers = (int(number) for number in shape.split("x"))
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(
        vocab_size=8192, hidden_size=hidden, intermediate_size=hidden * 8 // 3 // 64 * 64, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 128, bos_token_id=1, eos_token_id=2,
    ))  # fmt: skip
    network.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
