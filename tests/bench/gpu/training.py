"""Steps of MNTP and of supervised training with LoRA: tokens/s, MFU and memory, packed and padded."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.gpu.bench import DRY_PEAK, Bench, random_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ragvec.train.loss_module import RowsOfBatch
    from ragvec.train.model import Learner
    from ragvec.train.prepare import Prepared
    from ragvec.train.recipe import Recipe

WARM_UP, STEPS = 2, 4
DRY_TOKENS = 512
FLOPS_A_WEIGHT = 4  # forward 2, and 2 for the gradients that pass through; frozen weights need none of their own


def train_8b(bench: Bench) -> None:
    """The shape of Llama 3 8B, activations recomputed; MFU does not count the second forward pass."""
    train_shape(bench, "8b", batch_tokens=8_192, recompute=True)


def train_1b(bench: Bench) -> None:
    """A shape of 1.3 billion weights."""
    train_shape(bench, "1.3b", batch_tokens=16_384, recompute=False)


def train_shape(bench: Bench, name: str, batch_tokens: int, recompute: bool) -> None:
    """Both objectives upon one model, LoRA 16 on every linear layer."""
    from ragvec.encoder.speed import data_sheet_peak
    from ragvec.train.prepare import prepare
    from ragvec.train.trainable import add_trainable_parts

    section = f"training, {name}, LoRA 16"
    whole, tokenizer = random_model(bench, name, head=True)
    weights = sum(weight.numel() for key, weight in whole.base_model.named_parameters() if "embed" not in key)
    recipes = recipes_of(bench, DRY_TOKENS if bench.dry else batch_tokens, recompute)
    learners = learners_around(bench, whole, tokenizer)
    whole.requires_grad_(False)
    add_trainable_parts(learners["mntp"], recipes["mntp"])
    where = next(whole.parameters())
    peak = DRY_PEAK if bench.dry else data_sheet_peak(where.device, where.dtype)
    for objective, learner in learners.items():
        prepared = prepare(recipes[objective], learner)
        for row, packed in ((objective, True), (f"{objective}, padded", False)):
            if bench.left() < 10:
                break
            set_packing(learner, packed)
            try:
                seconds, tokens, loss = steps_of(bench, prepared, recipes[objective])
            except Exception as error:  # one figure less
                bench.figures.failed(section, row, error)
                continue
            rate = tokens / seconds
            mfu = FLOPS_A_WEIGHT * weights * rate / peak if peak else "no data sheet"
            bench.figures.put(section, {row: {"tokens/s": rate, "MFU": mfu, "GiB": bench.peak_gib(), "loss": loss}})
        set_packing(learner, True)


def recipes_of(bench: Bench, batch_tokens: int, recompute: bool) -> "dict[str, Recipe]":
    """A recipe of each objective, with its data in the work folder."""
    from ragvec.train.recipe import make_recipe
    from tests.bench.encode import make_texts

    texts = make_texts(60 if bench.dry else 3_000)
    names = ("query", "positive", "negative")
    triples = [dict(zip(names, three, strict=True)) for three in zip(texts[::3], texts[1::3], texts[2::3], strict=True)]
    common = {"model_name_or_path": "random", "output_dir": str(bench.work / "trained"), "device": bench.device, "lora_r": 16,
              "gradient_checkpointing": recompute, "max_seq_length": 512, "batch_tokens": batch_tokens}  # fmt: skip
    mntp = {"train_file": written(bench.work / "texts.json", [{"text": text} for text in texts]), "line_by_line": True,
            "mask_token_type": "eos"}  # fmt: skip
    supervised = {"train_file": written(bench.work / "triples.json", triples)}
    more: dict[str, dict[str, Any]] = {"mntp": mntp, "supervised": supervised}
    return {objective: make_recipe(objective, {**common, **keys})[0] for objective, keys in more.items()}


def written(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def learners_around(bench: Bench, whole: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> "dict[str, Learner]":
    """A learner of each objective, both around the same model."""
    import torch

    from ragvec.train.model import Learner
    from tests.bench.gpu.bench import encoder_around

    encoder = encoder_around(whole.base_model, tokenizer, None)
    half = torch.float32 if bench.dry else torch.bfloat16
    start = (whole.base_model, tokenizer, encoder.settings, None, next(whole.parameters()).device, half)
    return {"mntp": Learner(*start, whole=whole), "supervised": Learner(*start, prompts=encoder.prompts)}


def steps_of(bench: Bench, prepared: "Prepared", recipe: "Recipe") -> tuple[float, int, float]:
    """Seconds and tokens of some whole steps after two to warm up, and the last loss."""
    import torch

    from ragvec.train.optimizer import make_optimizer

    module = prepared.module.train()
    optimizer = make_optimizer(module, recipe)
    trained = [weight for weight in module.parameters() if weight.requires_grad]

    def step(batch: "RowsOfBatch", losses: list[float]) -> None:
        loss = module(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    bench.forget_peak()
    seconds, tokens, loss = 0.0, 0, 0.0
    for number in range(WARM_UP + (1 if bench.dry else STEPS)):
        batch = prepared.batches[number % len(prepared.batches)]
        losses: list[float] = []
        took = bench.seconds(partial(step, batch, losses))
        if number >= WARM_UP:
            seconds, tokens, loss = seconds + took, tokens + sum(map(len, batch.ids)), losses[0]
    return seconds, tokens, loss


def set_packing(learner: "Learner", packed: bool) -> None:
    """Let a learner's model take packed or padded batches."""
    from ragvec.encoder.attention import use_packed_attention

    if packed:
        use_packed_attention(learner.backbone)
    else:
        learner.backbone.set_attn_implementation("sdpa")
    learner.settings = replace(learner.settings, packed=packed)
