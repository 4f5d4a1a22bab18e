"""The log of an unfinished manifest: a line a part, void for every other manifest, whole up to the line a kill cut short."""

import json
import os

import pytest

from ragvec.errors import Damaged, RagvecError
from ragvec.shards import load_manifest
from ragvec.shards.log import LOG
from tests.test_bulk import Stops, contents, encode, expected, files, passages


@pytest.fixture
def stopped(tmp_path):
    """A folder whose run was stopped after five parts of ten."""
    with pytest.raises(KeyboardInterrupt):
        encode(passages(100), tmp_path / "s", Stops(50))
    return tmp_path / "s"


def test_an_unfinished_run_leaves_a_manifest_without_parts_and_a_line_for_each(stopped):
    written = json.loads((stopped / "manifest.json").read_text())
    head, *lines = (stopped / LOG).read_text().splitlines()
    assert (written["complete"], written["parts"], list(json.loads(head))) == (False, [], ["manifest"])
    parts = load_manifest(stopped).parts
    assert [part.describe() for part in parts] == [json.loads(line)["part"] for line in lines]
    assert [part.name for part in parts] == [f"part-{number:05d}.parquet" for number in range(5)]
    report = encode(passages(100), stopped)
    assert (report.kept, report.encoded, contents(stopped)) == (50, 50, expected(passages(100)))
    assert files(stopped) == ["manifest.json", *(f"part-{number:05d}.parquet" for number in range(10))]


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_line_that_was_cut_short_costs_its_part_alone(stopped, cut):
    os.truncate(stopped / LOG, (stopped / LOG).stat().st_size - cut)
    assert len(load_manifest(stopped).parts) == 4
    report = encode(passages(100), stopped)
    assert (report.kept, report.encoded, contents(stopped)) == (40, 60, expected(passages(100)))


def test_a_log_counts_for_its_own_manifest_only(stopped):
    """A kill between a new manifest and the end of the old log leaves both."""
    text = (stopped / "manifest.json").read_text()
    (stopped / "manifest.json").write_text(text.replace('"rows": 0', '"rows":  0'))
    assert load_manifest(stopped).parts == ()
    assert encode(passages(100), stopped).encoded == 100 and contents(stopped) == expected(passages(100))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "parts.log is \\[1\\], not an object"),
        ("nonsense", "holds a line that is no JSON"),
        ('{"number": 7, "part": {}}', "number is 7, outside 0 … 5"),
        ('{"number": -1, "part": {}}', "number is -1"),
        ('{"number": 0, "part": {"name": "../x"}}', "is damaged"),
    ],
)
def test_a_log_that_ragvec_did_not_write_is_one_line(stopped, line, said):
    with (stopped / LOG).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(Damaged, match=said) as error:
        load_manifest(stopped)
    assert "\n" not in str(error.value) and "--overwrite" in str(error.value)
    assert encode(passages(100), stopped, overwrite=True).encoded == 100


def test_no_link_is_written_through(stopped, tmp_path):
    (stopped / LOG).unlink()
    (tmp_path / "mine").write_text("keep")
    (stopped / LOG).symlink_to(tmp_path / "mine")
    with pytest.raises(RagvecError, match="parts.log is a link"):
        encode(passages(100), stopped)
    assert (tmp_path / "mine").read_text() == "keep"


def test_folders_of_before_the_log_are_gone_on_with(tmp_path):
    """Their manifest was written anew with each part."""
    encode(passages(100), tmp_path / "s")
    written = json.loads((tmp_path / "s" / "manifest.json").read_text())
    for part in written["parts"][6:]:
        (tmp_path / "s" / part["name"]).unlink()
    (tmp_path / "s" / "manifest.json").write_text(json.dumps({**written, "complete": False, "parts": written["parts"][:6]}))
    report = encode(passages(100), tmp_path / "s")
    assert (report.kept, report.encoded, contents(tmp_path / "s")) == (60, 40, expected(passages(100)))


def test_twice_the_parts_are_twice_the_writing(tmp_path, monkeypatch):
    written = []
    from ragvec.ingest import folder_shelf

    save, append = folder_shelf.save_manifest, folder_shelf.PartLog.append
    monkeypatch.setattr(folder_shelf, "save_manifest", lambda *what: written.append(save(*what)) or written[-1])
    monkeypatch.setattr(folder_shelf.PartLog, "append", lambda *what: written.append(json.dumps(what[2])) or append(*what))
    sizes = []
    for count in (20, 40):
        encode(passages(count), tmp_path / str(count), part_rows=1)
        sizes.append(sum(map(len, written)))
        written.clear()
    assert sizes[1] < 2.2 * sizes[0]
