"""Encoding on Ray: actors that die, a driver that is killed, another encoder somewhere; the files are those of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import RagvecError, WrongInput
from ragvec.shards import load_manifest
from tests.test_bulk import ROWS, HashEncoder, contents, encode, expected, files, passages

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow  # Ray takes ten seconds to start


@pytest.fixture(scope="module")
def cluster():
    """A local Ray of two cores, whose workers find this checkout."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_IGNORE_UNHANDLED_ERRORS="1")
    ray = pytest.importorskip("ray", reason="pip install 'ragvec[ray]'")
    ray.init(
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield ray
    ray.shutdown()


class DiesOnce(HashEncoder):
    """Ends its process at a text, the first time that one of its kind meets it."""

    def __init__(self, marker: str, text: str) -> None:
        super().__init__()
        self.marker, self.text = Path(marker), text

    def encode_counted(self, texts, **options):
        if self.text in texts and not self.marker.exists():
            self.marker.write_text("died")
            os._exit(1)
        return super().encode_counted(texts, **options)


class Dies(HashEncoder):
    """Ends its process at every text."""

    def encode_counted(self, texts, **options):
        os._exit(1)


class Fails(HashEncoder):
    """Can't encode anything."""

    def encode_counted(self, texts, **options):
        raise RuntimeError("no memory is left")


class Other(HashEncoder):
    fingerprint = "cd" * 16


class Slow(HashEncoder):
    def encode_counted(self, texts, **options):
        time.sleep(0.2)
        return super().encode_counted(texts, **options)


def on_ray(corpus, folder, load=HashEncoder, **options):
    from ragvec.ingest.on_ray import RayActors

    with RayActors(load, HashEncoder.fingerprint, actors=2) as actors:
        return encode(corpus, folder, elsewhere=actors, **options)


def equal_files(one: Path, other: Path) -> bool:
    return files(one) == files(other) and all((one / name).read_bytes() == (other / name).read_bytes() for name in files(one))


def test_the_files_are_those_of_one_process_though_an_actor_dies(cluster, tmp_path):
    corpus = passages(195)
    encode(corpus, tmp_path / "one")
    report = on_ray(corpus, tmp_path / "two", partial(DiesOnce, str(tmp_path / "marker"), "text number 77"))
    assert (tmp_path / "marker").exists() and report.encoded == 195
    assert equal_files(tmp_path / "one", tmp_path / "two") and contents(tmp_path / "two") == expected(corpus)
    changed = [*passages(3, first=1000), *corpus]
    assert on_ray(changed, tmp_path / "two").encoded == 3 and contents(tmp_path / "two") == expected(changed)


def test_what_goes_wrong_there_is_one_line_here_and_loses_nothing(cluster, tmp_path):
    corpus = passages(60)
    poisoned = on_ray(corpus, tmp_path / "p", partial(HashEncoder, poison=corpus[13].text))
    assert (poisoned.failed, [failure.passage_id for failure in load_manifest(tmp_path / "p").failed]) == (1, ["d13"])
    with pytest.raises(WrongInput, match=r"is another on one of the machines \(fingerprint cdcdcdcdcdcd instead of aba"):
        on_ray(corpus, tmp_path / "other", Other)
    with pytest.raises(RagvecError, match="32 passages in a row could not be encoded.*no memory is left"):
        on_ray(corpus, tmp_path / "fails", Fails, part_rows=40)
    with pytest.raises(RagvecError, match=r"begins with passage 'd0' was not encoded: .*run the same command again") as error:
        on_ray(corpus, tmp_path / "dies", Dies)
    assert "\n" not in str(error.value)
    assert on_ray(corpus, tmp_path / "dies").encoded == 60 and contents(tmp_path / "dies") == expected(corpus)


DRIVER = """
import os, sys
from tests.test_bulk import passages
from tests.test_ray import Slow, on_ray

os.environ.update(RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=os.getcwd())
on_ray(passages(400), sys.argv[1], Slow)
"""


def test_a_driver_that_is_killed_is_started_again(cluster, tmp_path):
    environment = {**os.environ, "RAY_ADDRESS": cluster.get_runtime_context().gcs_address}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path / "s")], cwd=ROOT, env=environment)
    log = tmp_path / "s" / "parts.log"
    while driver.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 5):
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    finished = len(load_manifest(tmp_path / "s").parts)
    assert 5 <= finished < 40
    report = on_ray(passages(400), tmp_path / "s")
    assert (report.kept, report.encoded) == (finished * ROWS, 400 - finished * ROWS)
    encode(passages(400), tmp_path / "whole")
    assert equal_files(tmp_path / "whole", tmp_path / "s")


def test_the_command_line_on_two_actors(cluster, tmp_path, tiny_decoder, capfd):
    from ragvec.cli.main import main
    from tests.test_cli_encode import vectors

    rows = [{"_id": f"d{n}", "text": f"text number {n}"} for n in range(40)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["encode", str(tmp_path / "c.jsonl"), "-e", str(tiny_decoder), "--part-rows", "10", "--device", "cpu"]
    reports = []
    for more in (["-o", str(tmp_path / "one")], ["-o", str(tmp_path / "two"), "--ray", "auto", "--processes", "2"]):
        with pytest.raises(SystemExit) as end:
            main([*words, *more])
        assert not end.value.code
        [line] = capfd.readouterr().out.splitlines()
        reports.append(json.loads(line))
    assert [report["encoded"] for report in reports] == [40, 40] and reports[1]["complete"]
    np.testing.assert_allclose(vectors(tmp_path / "one"), vectors(tmp_path / "two"), atol=1e-3)
    with pytest.raises(SystemExit) as end:
        main([*words, "-o", str(tmp_path / "x"), "--ray", "auto", "--rank", "0", "--world-size", "2"])
    assert end.value.code == 2 and "leave --rank and --world-size out" in capfd.readouterr().err
