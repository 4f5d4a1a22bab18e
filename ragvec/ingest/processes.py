"""One process for each device on this machine: `ragvec encode` runs itself once per rank and adds up what they did."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from ragvec.errors import RagvecError
from ragvec.ingest.encode import EncodeReport, of_all

_RUN = "from ragvec.cli.main import main; main()"


def encode_in_processes(words: Sequence[str], folder: str, devices: Sequence[str]) -> EncodeReport:
    """Run `ragvec` with these words once for each device, as ranks of one run; the first one's stderr is shown.

    words   a whole command line, "encode" included
    A process that fails does not stop the others: what they finish is kept. Raises RagvecError with the first error.
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _RUN, *words, *_as_rank(rank, len(devices), device)],
            stdout=subprocess.PIPE,
            stderr=None if rank == 0 else subprocess.PIPE,
            env=_environment(device, len(devices)),
        )
        for rank, device in enumerate(devices)
    ]
    try:
        outputs = [child.communicate() for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        raise
    reports: list[EncodeReport] = []
    for rank, (out, _) in enumerate(outputs):
        report = _report(out)
        if report is None:
            said = (outputs[rank][1] or b"").decode("utf-8", "replace").strip().splitlines()
            raise RagvecError(
                f"process {rank} of {len(devices)} ({devices[rank]}) failed with exit code {children[rank].returncode}: "
                f"{said[-1] if said else 'see above'}; what the others finished is kept, run the same command again"
            )
        reports.append(report)
    sums = {name: sum(getattr(report, name) for report in reports) for name in ("encoded", "reused", "damaged")}
    return of_all(reports[0]._replace(folder=folder, seconds=max(report.seconds for report in reports), **sums))


def _as_rank(rank: int, world: int, device: str) -> list[str]:
    return [
        "--processes", "1", "--rank", str(rank), "--world-size", str(world), "--device", device, "--format", "json",
    ]  # fmt: skip


def _environment(device: str, world: int) -> dict[str, str]:
    """Processes on the CPU share its cores."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // world))} if device == "cpu" else {}
    return {**threads, **os.environ}


def _report(out: bytes) -> EncodeReport | None:
    with suppress(ValueError, TypeError, IndexError):
        return EncodeReport(**json.loads(out.splitlines()[-1]))
    return None
