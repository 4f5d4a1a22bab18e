"""Memory of a contrastive step: cached gradients at a batch of 2,048 against plain ones at 32 and more.

    python -m tests.bench.gradient_cache

Each step runs in a process of its own; its memory is the peak above what the loaded model holds. Linux only. The allocator is
told to give back at once what is freed: glibc would keep it, and the peak would say little about what the step needs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOKENS = 16  # of each text
HIDDEN, LAYERS = 128, 2
GIVE_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main() -> None:
    """Measure each setting and print its memory beside plain 32's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=2, type=int, metavar=("BATCH", "MINI_BATCH"), help=argparse.SUPPRESS)
    child = parser.parse_args().child
    if child:
        print(step_memory(child[0], child[1] or None))
        return
    print(f"hidden size {HIDDEN}, {LAYERS} layers, LoRA 16, {TOKENS} tokens a text, float32")
    for batch, mini in ((32, 0), (256, 0), (2048, 32 * TOKENS), (2048, 64 * TOKENS)):
        command = [sys.executable, "-m", "tests.bench.gradient_cache", "--child", str(batch), str(mini)]
        peak = int(subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **GIVE_BACK}).stdout)
        how = f"cached, mini_batch_tokens {mini:,}" if mini else "plain"
        print(f"batch {batch:5,}  {peak / 1e6:8,.0f} MB  {how}")


def step_memory(batch: int, mini_batch_tokens: int | None) -> int:
    """Bytes that a step (forward and backward) needs at its peak beyond what was held before it."""
    import torch

    from ragvec.train.prepare import prepare
    from ragvec.train.recipe import make_recipe
    from ragvec.train.trainable import add_trainable_parts, load_learner
    from tests.tiny import save_tiny_decoder

    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tiny_decoder(folder / "model", hidden_size=HIDDEN, intermediate_size=4 * HIDDEN, num_hidden_layers=LAYERS)
        row = {"query": "x" * (TOKENS - 1), "positive": "y" * (TOKENS - 1)}
        (folder / "pairs.jsonl").write_text((json.dumps(row) + "\n") * batch)
        recipe, _ = make_recipe("supervised", {
            "model_name_or_path": str(folder / "model"), "train_file": str(folder / "pairs.jsonl"), "output_dir": "unused",
            "per_device_train_batch_size": batch, "mini_batch_tokens": mini_batch_tokens, "torch_dtype": "float32",
            "device": "cpu",
        })  # fmt: skip
        learner = load_learner(recipe)
        add_trainable_parts(learner, recipe)
        prepared = prepare(recipe, learner)
    prepared.module.train()
    examples = prepared.batches[0]
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status("VmRSS")
    prepared.module(examples)["loss"].backward()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    main()
