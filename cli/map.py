"""`ragvec map`: an index's passages as points on a plane, for the search page."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

PAGE = "serving.md"
EXAMPLES = ("ragvec map ragvec-index",)


def run(
    index: Annotated[Path, typer.Argument(envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
) -> None:
    """Make the map, and say what its topics are."""
    from ragvec.artefacts import MAP_NAME
    from ragvec.index import Index
    from ragvec.map import make_map
    from ragvec.progress import duration

    started = time.monotonic()
    with Index.open(index) as opened:
        made = make_map(opened, on_step=lambda step: print(step, file=sys.stderr, flush=True))
    sizes = [int((made.topics == number).sum()) for number in range(len(made.names))]
    for topic, size in zip(made.names, sizes, strict=True):
        print(f"{size:>7,}  {', '.join(topic.words)}")
    print(f"{index / MAP_NAME}: {len(made):,} of {made.total:,} passages, in {duration(time.monotonic() - started)}")
