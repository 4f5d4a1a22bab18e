"""Nothing lost: runs killed at random times, a disk that fills up, memory that runs out.

The long proof, 50 kills and more of each kind: `pytest -m slow tests/test_bulk_survival.py tests/test_cli_encode.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ragvec.ingest import encode_corpus
from ragvec.ingest.run import PARTS_AHEAD
from ragvec.records import Passage
from tests.test_bulk import ROWS, HashEncoder, contents, expected, files, passages

ROOT = Path(__file__).resolve().parent.parent
COUNT = 300


def generation(number: int) -> list[Passage]:
    """A corpus of which one text in a hundred, and its first document, change with every generation."""
    corpus = passages(COUNT, first=number)
    return [Passage(p.passage_id, p.doc_id, f"{p.text} v{number}") if i % 100 == 7 else p for i, p in enumerate(corpus)]


class Slow(HashEncoder):
    """Takes its time, and writes down on disk what it was asked."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log = log

    def encode_counted(self, texts, **options):
        import time

        time.sleep(0.004)
        with open(self.log, "a") as log:
            log.writelines(text + "\n" for text in texts)
        return super().encode_counted(texts, **options)


KILLER = """
import os, random, signal, sys, time
from ragvec.ingest import Rank, encode_corpus
from tests.test_bulk_survival import ROWS, Slow, generation

folder, log, kills, world = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(kills)


def start(number, rank):
    child = os.fork()  # the libraries are imported once, and each run still dies as a process does
    if child == 0:
        encode_corpus(generation(number), Slow(log), folder, part_rows=ROWS, rank=Rank(rank, world))
        os._exit(0)
    return child


def kill_later(children):
    '''Kill them all after a while; returns how many had not finished by themselves.'''
    time.sleep(rng.uniform(0.002, 0.15))
    for child in children:
        os.kill(child, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0, -signal.SIGKILL}, codes
    return sum(code != 0 for code in codes)


killed = number = 0
while killed < kills:
    hit = kill_later([start(number, rank) for rank in range(world)])
    killed += hit
    number += hit == 0  # this corpus is done: the next is a little different
print(number, killed)
assert [os.waitpid(child, 0)[1] for child in [start(number, rank) for rank in range(world)]] == [0] * world
"""


def kill(folder: Path, log: Path, kills: int, world: int) -> tuple[int, int]:
    """Kill runs until so many have died, then let one finish; returns the last generation and the number of kills."""
    arguments = [str(word) for word in (folder, log, kills, world)]
    out = subprocess.run([sys.executable, "-c", KILLER, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return tuple(int(word) for word in out.stdout.split()[:2])


@pytest.mark.parametrize(
    ("kills", "world"), [(8, 1), (6, 2), *(pytest.param(n, w, marks=pytest.mark.slow) for n, w in [(60, 1), (60, 3)])]
)
def test_killed_at_random_the_shards_equal_an_uninterrupted_run(tmp_path, kills, world):
    folder, log = tmp_path / "s", tmp_path / "log"
    number, killed = kill(folder, log, kills, world)
    corpus = generation(number)
    assert contents(folder) == expected(corpus)
    needed = {passage.text for each in range(number + 1) for passage in generation(each)}
    # each kill may cost a process the parts that were being computed, stored and written
    assert len(log.read_text().splitlines()) <= len(needed) + killed * PARTS_AHEAD * ROWS
    encode_corpus(corpus, HashEncoder(), tmp_path / "whole", part_rows=ROWS)
    assert files(folder) == files(tmp_path / "whole")
    manifests = [json.loads((each / "manifest.json").read_text()) for each in (folder, tmp_path / "whole")]
    for manifest in manifests:
        for part in manifest["parts"]:
            part.pop("recall", None)  # measured on what the first run encoded
        manifest.pop("recall", None)
    assert manifests[0] == manifests[1]


FULL = """
mount -t tmpfs -o size={size}k tmpfs {folder} || exit 77
{python} -c '
from ragvec.ingest import encode_corpus
from ragvec.errors import RagvecError
from tests.test_bulk import HashEncoder, passages, ROWS, contents, expected
from ragvec.shards import load_manifest, verify_shards
from pathlib import Path
import os, shutil
folder = Path("{folder}") / "s"
try:
    encode_corpus(passages(200), HashEncoder(), folder, part_rows=ROWS)
except RagvecError as error:
    print(error)
manifest = load_manifest(folder)
print(len(manifest.parts), verify_shards(folder), sorted(p.name for p in folder.glob("*.tmp")))
os.system("mount -o remount,size=64m {folder}")
encoder = HashEncoder()
report = encode_corpus(passages(200), encoder, folder, part_rows=ROWS)
print(report.kept, len(encoder.seen), contents(folder) == expected(passages(200)))
'
"""


@pytest.mark.parametrize("size", [40, 57])
def test_a_full_disk_says_so_and_the_run_goes_on_once_there_is_room(tmp_path, size):
    """On a real file system of so many kilobytes, mounted for this test alone."""
    (tmp_path / "disk").mkdir()
    script = FULL.format(size=size, folder=tmp_path / "disk", python=sys.executable)
    out = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True)
    if out.returncode == 77 or "unshare" in out.stderr:
        pytest.skip("no file system can be mounted here")
    said, state, after = out.stdout.splitlines()
    assert "cannot be written: No space left on device. Finished parts are kept: mend this and run the same command" in said
    parts = int(state.split()[0])
    assert 0 < parts < 20 and state == f"{parts} [] []"
    assert after == f"{parts * ROWS} {200 - parts * ROWS} True"


@pytest.mark.slow
def test_ten_times_the_documents_take_the_same_memory(tmp_path):
    from tests.bench.memory import peaks

    [(_, _, few), (_, _, many)] = peaks(tmp_path, [30_000, 300_000])
    assert many < 1.1 * few
