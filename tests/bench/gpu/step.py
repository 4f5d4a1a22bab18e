"""One step in a process of its own: `python -m tests.bench.gpu.step NAME OUT WORK [--dry]`, as the command starts it."""

import sys
from importlib import import_module
from pathlib import Path

from tests.bench.gpu.bench import Bench, make_importable
from tests.bench.gpu.figures import Figures

MODULES = {
    "check": ("check", "check"),
    "encode8b": ("encoding", "encode_8b"),
    "encode1b": ("encoding", "encode_1b"),
    "serve8b": ("serving", "serve_8b"),
    "train8b": ("training", "train_8b"),
    "train1b": ("training", "train_1b"),
    "bulk": ("bulk", "bulk"),
    "faiss": ("search", "search"),
}


def main() -> None:
    """Run the step named on the command line."""
    name, out, work, *dry = sys.argv[1:]
    make_importable()
    module, function = MODULES[name]
    getattr(import_module(f"tests.bench.gpu.{module}"), function)(Bench(Figures(Path(out)), Path(work), dry=bool(dry)))


if __name__ == "__main__":
    main()
