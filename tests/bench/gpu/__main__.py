"""Is ragvec right on this GPU, how fast is it, does the GPU wait? From the repository's root, without any network:

    python -m tests.bench.gpu --out OUT                              every step, most valuable first, at most 9 minutes
    python -m tests.bench.gpu --out OUT --only check,encode8b        some of them
    python -m tests.bench.gpu --out OUT --only check --then "COMMAND …"   a command for what is left; {left} = its seconds
    python -m tests.bench.gpu --out OUT --dry                        on the CPU with tiny shapes: whether the steps run at all

Needs torch, transformers, peft, accelerate, and ragvec's orjson and zstandard; uses sentence-transformers and a FAISS with GPU
support where they are. `--wheels FOLDER` installs what a bare machine lacks from wheels that lie there, into the work folder.
ragvec itself need not be installed.

Each step is a process of its own with a time limit, holds one model at a time, and writes results.json, results.md and log.txt
after every figure. MFU counts real tokens and the data sheet's dense peak.
"""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.bench.gpu.figures import Figures

ROOT = Path(__file__).resolve().parents[3]
STEPS = {  # name: (least seconds worth starting it with, most seconds it may take)
    "check": (30, 80),
    "encode8b": (50, 150),
    "serve8b": (30, 50),
    "encode1b": (30, 60),
    "train8b": (35, 70),
    "train1b": (25, 50),
    "bulk": (35, 80),
    "faiss": (5, 60),
}
NEEDED = ("torch", "transformers", "peft", "accelerate", "orjson", "zstandard", "pyarrow")
DRY_SECONDS = 240
THEN_SECONDS = 20
KILL_SECONDS = 3  # that a step which must end is given, twice


def main(arguments: list[str] | None = None) -> int:
    """Run the steps asked for; 0 if each of them ended well."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    figures, end, good = Figures(options.out), time.monotonic() + 60 * options.minutes, True
    try:
        environment = {**os.environ, **surroundings(options)}
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"--wheels {options.wheels}: {error}", file=sys.stderr)
        return 1
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"not here: {', '.join(missing)}. Install them, or give --wheels a folder with their wheels", file=sys.stderr)
        return 1
    for name in options.only:
        least, most = STEPS[name]
        left = end - time.monotonic()
        if left < least and not options.dry:
            figures.step(name, f"left out: {left:.0f} s were left, {least} needed")
            continue
        words = [sys.executable, "-m", "tests.bench.gpu.step", name, str(options.out), str(options.work)]
        seconds = DRY_SECONDS if options.dry else min(most, left - 2 * KILL_SECONDS)
        good &= run_step(figures, name, [*words, *(["--dry"] if options.dry else [])], seconds, environment)
    if options.then and (left := end - time.monotonic()) < THEN_SECONDS:
        figures.step("then", f"left out: {left:.0f} s were left, {THEN_SECONDS} needed")
    elif options.then:
        words = ["bash", "-c", options.then.replace("{left}", str(int(left - 15)))]
        good &= run_step(figures, "then", words, left - 2 * KILL_SECONDS, environment)
    print(figures.table())
    return 0 if good else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, results.md, log.txt")
    parser.add_argument("--work", type=Path, help="folder for models and shards; default: a temporary one")
    parser.add_argument("--minutes", type=float, default=8.5, help="that everything may take; a dry run takes what it needs")
    parser.add_argument("--only", type=steps, default=list(STEPS), help=f"of {','.join(STEPS)}")
    parser.add_argument("--then", help="a shell command for the time that is left; {left} = its seconds")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that this machine lacks")
    parser.add_argument("--dry", action="store_true", help="on the CPU, with tiny shapes")
    options = parser.parse_args(arguments)
    options.work = options.work or Path(tempfile.mkdtemp(prefix="ragvec-gpu-"))
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def steps(names: str) -> list[str]:
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in STEPS]:
        raise argparse.ArgumentTypeError(f"no step {unknown[0]!r}: choose from {', '.join(STEPS)}")
    return chosen


def surroundings(options: argparse.Namespace) -> dict[str, str]:
    """The environment of each step: the checkout and the wheels importable, no network, no fragments of memory."""
    paths = [str(ROOT)]
    if options.wheels:
        site = options.work / "site"
        wheels = sorted(str(path) for path in options.wheels.glob("*.whl"))
        if not wheels:
            raise FileNotFoundError("no wheel (*.whl) lies there")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site)]
        subprocess.run([*pip, *wheels], check=True)  # pip itself says what is wrong
        paths.append(str(site))
        sys.path.append(str(site))
    return {
        "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }


def run_step(figures: Figures, name: str, words: list[str], seconds: float, environment: dict[str, str]) -> bool:
    """Run a step with a time limit, its output to log.txt; whether it ended well."""
    started = time.monotonic()
    ends = {"GPU_BENCH_ENDS": str(time.time() + seconds - 4)}
    with figures.log.open("ab") as log:
        log.write(f"\n===== {name}, {seconds:.0f} s at most\n".encode())
        log.flush()
        child = subprocess.Popen(words, stdout=log, stderr=log, env={**environment, **ends}, cwd=ROOT, start_new_session=True)
        try:
            code = child.wait(timeout=seconds)
            said = "ok" if code == 0 else f"exit code {code}: see log.txt"
        except BaseException as error:
            end_group(child)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code, said = 0, "stopped at its limit"
    figures.step(name, f"{said}, {time.monotonic() - started:.0f} s")
    print(f"{name}: {said}, {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a step and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=KILL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
