"""From a file to shards by the public command, beside the same encoder's computing alone: between them the GPU waits."""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.gpu.bench import ROOT, Bench, encoder_around, one_pass, random_model

PASSAGES = {"1.3b": 16_384, "bundled": 32_768}
DRY_PASSAGES = 24
BUDGET, DRY_BUDGET = 65_536, 2_048
COMMAND = f"import ragvec; ragvec.__path__.append({str(ROOT)!r}); from ragvec.cli.main import main; main()"
WATCH = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "250"]


def bulk(bench: Bench) -> None:
    """The bundled encoder, where waiting shows most, and a shape of 1.3 billion weights."""
    from ragvec.data import data_path

    bulk_of(bench, "bundled", data_path("encoder"))
    if bench.left() > 20:
        bulk_of(bench, "1.3b", saved(bench, "1.3b"))


def bulk_of(bench: Bench, name: str, folder: Path) -> None:
    """The figures of one encoder; it is loaded here once the command's process has ended."""
    from ragvec import Encoder
    from tests.bench.encode import make_texts

    texts = make_texts(DRY_PASSAGES if bench.dry else PASSAGES[name])
    budget = DRY_BUDGET if bench.dry else BUDGET
    try:
        last, busy = run_command(bench, name, folder, texts, budget)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        bench.figures.failed("bulk", name, error)
        return
    encoder = Encoder.load(folder, device=bench.device, batch_tokens=budget)
    one_pass(bench, encoder, texts[: len(texts) // 8])
    alone = one_pass(bench, encoder, texts)
    tokenizing = bench.seconds(lambda: encoder.prompts.build(texts, ""))
    bench.figures.put("bulk", {name: {"passages": len(texts), "command s": last["seconds"], "computing alone s": alone,
        "idle share": max(1 - alone / last["seconds"], 0.0), "tokenizing alone s": tokenizing,
        "share of peak": last["peak_share"], "nvidia-smi, loading included": busy}})  # fmt: skip


def run_command(bench: Bench, name: str, folder: Path, texts: list[str], budget: int) -> tuple[dict[str, Any], str]:
    """`ragvec encode` over the texts: the last line of its log, and how busy the driver says that the GPU was."""
    corpus, shards, log = (bench.work / f"{name}{end}" for end in (".jsonl", "-shards", "-log.jsonl"))
    rows = [json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(texts)]
    corpus.write_text("".join(rows), encoding="utf-8")
    shutil.rmtree(shards, ignore_errors=True)
    log.unlink(missing_ok=True)
    words = [sys.executable, "-c", COMMAND, "encode", str(corpus), "-o", str(shards), "-e", str(folder), "--device",
             bench.device, "--log-json", str(log), "--batch-tokens", str(budget)]  # fmt: skip
    watch = None
    if not bench.dry and shutil.which(WATCH[0]):
        watch = subprocess.Popen(WATCH, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=max(min(bench.left(), 600), 10))
    finally:
        busy = busy_share(watch)
    print(done.stdout, done.stderr[-4000:], flush=True)
    if done.returncode:
        raise OSError(f"ragvec encode ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return json.loads(log.read_text(encoding="utf-8").splitlines()[-1]), busy


def busy_share(watch: subprocess.Popen[str] | None) -> str:
    """The mean of what nvidia-smi printed."""
    if watch is None:
        return ""
    watch.terminate()
    rows = [float(line) for line in watch.communicate()[0].splitlines() if line.strip().isdigit()]
    return f"{statistics.mean(rows):.0f} % of {len(rows)} looks" if rows else ""


def saved(bench: Bench, name: str) -> Path:
    """A random encoder of a shape on disk."""
    import torch

    folder = bench.work / f"model-{name}"
    if not (folder / "config.json").exists():
        model, tokenizer = random_model(bench, name)
        encoder_around(model, tokenizer, None).save(folder)
        del model
        if not bench.dry:
            torch.cuda.empty_cache()
    return folder
