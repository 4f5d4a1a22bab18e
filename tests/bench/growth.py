"""How the index grows: build time, one query's time, memory and recall from 10⁴ to 10⁶ vectors, printed and plotted.

    python -m tests.bench.growth --output docs/growth.svg                    ragvec alone
    python -m tests.bench.growth --rivals ragvec,hnswlib --most 100000       with another library, up to so many vectors

Each size is measured as `tests.bench.index` does, with one round.
"""

import argparse
import os
import tempfile
from pathlib import Path

from tests.bench.index import Figures, compare, cpu, prepare, report
from tests.bench.rivals import installed

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PANELS = {
    "build_s": "build, seconds",
    "single_ms": "one query, one thread, ms",
    "memory_mib": "memory when open, MiB",
    "recall": "recall@10, target 0.95",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--rivals", default="ragvec")
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--output", type=Path, help="write the plot there")
    parser.set_defaults(queries=1000, recall=0.95, rounds=1, threads=os.cpu_count())
    options = parser.parse_args()
    names, found = installed(options.rivals.split(",")), {}
    for rows in (size for size in SIZES if size <= options.most):
        with tempfile.TemporaryDirectory(prefix="ragvec-bench-") as folder:
            prepare(Path(folder), rows, options.dimension, options.queries)
            found[rows] = compare(names, folder, options)
            report(rows, options.dimension, options, found[rows])
        if options.output:
            plot(found, options)  # after each size: a plot of what there is, if it is interrupted


def plot(found: dict[int, Figures], options: argparse.Namespace) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(13, 3.2), layout="constrained")
    for axis, (key, title) in zip(axes, PANELS.items(), strict=True):
        for name in next(iter(found.values())):
            axis.plot(list(found), [one[name][key] for one in found.values()], marker="o", label=name)
        axis.set(xscale="log", yscale="linear" if key == "recall" else "log", xlabel="vectors", title=title)
        axis.grid(alpha=0.3)
    axes[-1].set_ylim(0.9, 1.005)
    axes[0].legend()
    figure.suptitle(f"{options.dimension} dimensions, {options.threads} threads to build; {cpu()}", fontsize=9)
    figure.savefig(options.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
