"""`ragvec encode` on two hosts over object storage: one is killed, or stands still for a while, and the other goes on.

Each host is a network namespace with a name, and a clock ten minutes from the other's where libfaketime is installed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets import CLEARED, environment
from tests.hosts import on, two_hosts, under_its_name

ROOT = Path(__file__).resolve().parent.parent
PORT = 9077
ROWS = 4000
PATIENCE_S = 1200  # on a machine that has other work
ENCODE = [sys.executable, "-c", "from ragvec.cli.main import main; main()", "encode"]
WAIT = """
import sys, time
from ragvec.objects import Bucket

bucket, least = Bucket(sys.argv[1]), int(sys.argv[2])
while len(bucket.names("writers/")) < 2:
    time.sleep(0.05)
least += len(bucket.names("records/"))
while len(bucket.names("records/")) < least:
    time.sleep(0.05)
"""
LOOK = """
import json, sys
from ragvec.objects import Bucket
from ragvec.shards import manifest_at, verify_shards

place = sys.argv[1]
left = {folder: len(Bucket(place).names(folder)) for folder in ("manifests/", "claims/")}
print(json.dumps({"parts": [part.sha256 for part in manifest_at(place).parts], "damaged": verify_shards(place), **left}))
"""


def variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    there = environment(PORT) | {"AWS_ENDPOINT_URL": f"http://10.77.0.1:{PORT}", "NO_PROXY": "10.77.0.1"}
    return {**kept, **there, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[str]]:
    """Two hosts; the first also holds a bucket."""
    pytest.importorskip("obstore", reason="pip install 'ragvec[s3]'")
    pytest.importorskip("moto", reason="pip install 'ragvec[test]'")
    make = f"import urllib.request as r; r.urlopen(r.Request('http://10.77.0.1:{PORT}/bucket', method='PUT'))"
    with two_hosts() as names:
        command = on(names[0], sys.executable, "-m", "moto.server", "-H", "10.77.0.1", "-p", str(PORT))
        store = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for left in range(60, -1, -1):
                put = on(names[1], sys.executable, "-c", make)
                made = subprocess.run(put, env=variables(), capture_output=True, check=False)
                if made.returncode == 0:
                    break
                assert left, made.stderr.decode()
                time.sleep(1)
            yield names
        finally:
            store.kill()
            store.wait()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": f"d{n}", "text": f"text number {n} of many"}) + "\n" for n in range(ROWS)))
    return path


def started(host: str, minutes: int, words: list[str]) -> subprocess.Popen:
    """`ragvec encode` on a host whose clock is so many minutes off."""
    clock = ["faketime", "-f", f"{minutes:+d}m"] if minutes else []
    command = under_its_name(host, *clock, *ENCODE, *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables())


def said(host: str, script: str, *words: str) -> str:
    """What a script prints on a host."""
    command = on(host, sys.executable, "-c", script, *words)
    return subprocess.run(
        command, cwd=ROOT, env=variables(), stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=True
    ).stdout


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [(0, 0), (7, -7)], ids=["one-clock", "clocks-apart"])
@pytest.mark.parametrize("fate", ["killed", "stopped"])
def test_what_a_lost_host_had_claimed_the_other_finishes(fate, minutes, hosts, corpus, tiny_decoder, tmp_path):
    """Ranks on two hosts, the second of which is lost; `stopped`: it wakes up once the other has finished."""
    if any(minutes) and shutil.which("faketime") is None:
        pytest.skip("there is no `faketime`: install it (Debian: faketime)")
    place = f"s3://bucket/{tmp_path.name}/shards"
    common = [str(corpus), "-e", str(tiny_decoder), "--device", "cpu", "--part-rows", "8"]
    ranks = [
        started(host, off, [*common, "-o", place, "--rank", str(rank), "--world-size", "2"])
        for rank, (host, off) in enumerate(zip(hosts, minutes, strict=True))
    ]
    try:
        said(hosts[0], WAIT, place, "60")
        os.kill(ranks[1].pid, signal.SIGKILL if fate == "killed" else signal.SIGSTOP)
        reports = [ranks[0].communicate(timeout=PATIENCE_S)]
        assert (ranks[0].returncode, reports[0][1]) == (0, "")
        finished = json.loads(said(hosts[0], LOOK, place))
        if fate == "stopped":
            os.kill(ranks[1].pid, signal.SIGCONT)
            reports.append(ranks[1].communicate(timeout=PATIENCE_S))
            assert (ranks[1].returncode, reports[1][1]) == (0, "")
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    alone = subprocess.run([*ENCODE, *common, "-o", str(tmp_path / "alone")], env=variables(), capture_output=True, check=True)
    made = [part["sha256"] for part in json.loads((tmp_path / "alone" / "manifest.json").read_text())["parts"]]
    assert len(made) == ROWS // 8 and json.loads(alone.stdout)["encoded"] == ROWS
    whole = {"parts": made, "damaged": [], "manifests/": 1, "claims/": 0}
    assert finished == json.loads(said(hosts[0], LOOK, place)) == whole
    told = [json.loads(out) for out, _ in reports]
    assert all(one["complete"] and one["rows"] == one["encoded"] + one["kept"] == ROWS for one in told)
    assert told[0]["encoded"] < ROWS
