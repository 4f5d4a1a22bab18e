"""A shards folder from a stranger: names in its manifest stay inside it, and only what ragvec makes is removed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ragvec.errors import Damaged
from ragvec.ingest.folder import check_folder, remove_shards, sweep
from ragvec.ingest.ranks import remove_ranks
from ragvec.shards import Manifest, PartVectors, Provenance, Shards, load_manifest, save_manifest, store, write_part
from tests.test_index import passages_named

PROVENANCE = Provenance(
    source="an-encoder", fingerprint="f" * 32, dimension=8, instruction="", dtype="float16", normalized=True
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    passages = passages_named(range(3))
    encoded = PartVectors(store(np.eye(3, 8, dtype=np.float32), "float16"), np.ones(3, int), np.zeros(3, bool))
    part = write_part(folder, "part-00000.parquet", passages, encoded, provenance=PROVENANCE)
    save_manifest(folder, Manifest(PROVENANCE, parts=(part,), complete=True))
    return folder


def change(folder: Path, where: list, value) -> None:
    record = json.loads((folder / "manifest.json").read_text())
    holder = record
    for key in where[:-1]:
        holder = holder[key]
    holder[where[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(record))


def test_a_manifest_comes_back_as_it_was_written(folder: Path) -> None:
    save_manifest(folder, manifest := load_manifest(folder))
    assert load_manifest(folder) == manifest
    assert len(Shards.open(folder)) == 3


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["parts", 0, "name"], "../precious", "a part is called '../precious', not like part-00000.parquet"),
        (["parts", 0, "name"], "/etc/passwd", "a part is called '/etc/passwd'"),
        (["parts", 0, "name"], "notes.parquet", "a part is called 'notes.parquet'"),
        (["parts", 0, "sha256"], "../../x", "sha256 of part-00000.parquet is '../../x', not 64 hex digits"),
        (["parts", 0, "rows"], "3", "rows is '3', not a whole number"),
        (["parts", 0, "bytes"], -1, "bytes of part-00000.parquet is -1, outside 0"),
        (["parts"], {"a": 1}, "parts is {'a': 1}, not a list"),
        (["encoder", "dimension"], 10**9, "dimension is 1000000000, outside 1 … 1048576"),
        (["dtype"], "pickle", "dtype is 'pickle', none of float16"),
        (["complete"], "yes", "complete is 'yes', not true or false"),
    ],
)
def test_a_manifest_of_other_types_or_names_is_one_line(folder: Path, where: list, value, message: str) -> None:
    change(folder, where, value)
    with pytest.raises(Damaged, match="manifest.json is damaged") as error:
        Shards.open(folder)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["previous", "ranks", "ranks/0-of-2", "manifest.json"])
def test_a_folder_inside_that_leads_elsewhere_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    if name == "manifest.json":
        return check_manifest_link(folder)
    for use in (lambda: check_folder(folder), lambda: sweep(folder, load_manifest(folder)), lambda: remove_shards(folder)):
        if name == "previous" or use.__code__.co_names[0] != "sweep":
            with pytest.raises(Damaged, match="is a link, where ragvec keeps a folder of its own"):
                use()
    assert (tmp_path / "elsewhere").is_dir()


def check_manifest_link(folder: Path) -> None:
    with pytest.raises(Damaged, match="manifest.json is a link"):
        check_folder(folder)


@pytest.mark.parametrize(
    "name", ["part-00000.parquet", "part-00007.parquet", "part-00000.parquet.12.tmp", "manifest.json.12.tmp"]
)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_bears_the_name_of_a_part_must_be_a_file(folder: Path, name: str, make) -> None:
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(Damaged, match=f"{name} is (a link|something else), where ragvec keeps a regular file of its own"):
        check_folder(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.touch()])
def test_a_manifest_without_end_is_not_read(folder: Path, make) -> None:
    (folder / "manifest.json").unlink()
    make(folder / "manifest.json")
    if (folder / "manifest.json").is_file():
        os.truncate(folder / "manifest.json", 1 << 40)  # a hole, which takes no room on the disk
    with pytest.raises(Damaged, match="manifest.json (is no file that can be read|has 1,099,511,627,776 bytes)"):
        load_manifest(folder)


def test_only_what_ragvec_makes_is_removed(folder: Path, tmp_path: Path) -> None:
    mine = ["notes.tmp", "part-final.parquet", "previous/thesis.tex", "ranks/notes", "ranks/0-of-2/notes"]
    ours = ["part-00009.parquet", "part-00001.parquet.12.tmp", "manifest.json.12.tmp", f"previous/{'a' * 32}.parquet",
            "ranks/0-of-2/part-00000.parquet"]  # fmt: skip
    for name in (*mine, *ours):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("words")
    sweep(folder, load_manifest(folder))
    remove_ranks(folder)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {*mine, "manifest.json", "part-00000.parquet"}
    remove_shards(folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(mine)
