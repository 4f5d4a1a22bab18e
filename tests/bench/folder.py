"""A folder of 186 mixed files as people have them, English and Korean, made of the free books that Debian packages hold.

    pip install 'ragvec[docs]' python-docx fpdf2
    python -m tests.bench.folder documents

60 web pages, 50 texts, 31 Markdown files, 25 Word and 15 PDF documents: sections of The Debian Administrator's Handbook and of
the Korean installation guide, the web pages as they are; and 5 tables of packages. Runs where `apt-get download` and `dpkg-deb`
do (Debian and its kin, no root needed); the same packages make the same texts.
"""

import argparse
import csv
import itertools
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("debian-handbook", "installation-guide-amd64", "fonts-nanum")
ENGLISH, KOREAN = "debian-handbook/html/en-US", "installation-guide-amd64/ko"
KINDS = {".html": (30, 30), ".txt": (39, 11), ".md": (20, 11), ".docx": (18, 7), ".pdf": (13, 2)}  # English, Korean of each
TABLES = {"editors": ",", "database": ",", "mail": ";", "web": "\t", "sound": ","}
ROWS = 60
FONT = "usr/share/fonts/truetype/nanum/NanumGothic.ttf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # names tables of the font that it leaves out
    with tempfile.TemporaryDirectory() as name:
        books = unpack(Path(name))
        make(books, folder)
    print(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files")


def unpack(place: Path) -> Path:
    """The root under which the packages' files lie."""
    subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=place, check=True)
    for package in place.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, place], check=True)
    return place


def make(books: Path, folder: Path) -> None:
    """Write every file; a folder for each kind, as a careless archive has them."""
    english = iter(pages(books / "usr/share/doc" / ENGLISH))
    korean = iter(pages(books / "usr/share/doc" / KOREAN, hangul=300))
    for suffix, (of_english, of_korean) in KINDS.items():
        (folder / suffix[1:]).mkdir(parents=True)
        for page in [*itertools.islice(english, of_english), *itertools.islice(korean, of_korean)]:
            path = folder / suffix[1:] / page.with_suffix(suffix).name
            write(page, path, books / FONT)
    tables(folder / "csv")


def pages(folder: Path, hangul: int = 0) -> Iterator[Path]:
    """The pages of a book that hold text of their own, by name; hangul: with as many Korean letters at least."""
    for page in sorted(folder.glob("*.html")):
        text = re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))
        if page.stem != "index" and len(text) > 450 and len(re.findall("[가-힣]", text)) >= hangul:
            yield page


def write(page: Path, path: Path, font: Path) -> None:
    """The page in the format of the path."""
    if path.suffix == ".html":
        shutil.copyfile(page, path)
    elif path.suffix == ".docx":
        write_docx(blocks(page), path)
    elif path.suffix == ".pdf":
        write_pdf(blocks(page), path, font)
    else:
        marks = {"p": "", "li": "- ", "h1": "# ", "h2": "# ", "h3": "## ", "h4": "### "} if path.suffix == ".md" else {}
        path.write_text("\n\n".join(marks.get(tag, "") + text for tag, text in blocks(page)) + "\n", encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(tag, text) of a page's headings, paragraphs and items, without what leads to other pages."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    for extra in soup.select("ul.docnav, p#title, .navheader, .navfooter, .toc"):
        extra.decompose()
    found = soup.find_all(["h1", "h2", "h3", "h4", "p", "li", "pre"])
    outer = [tag for tag in found if not tag.find_parent(["p", "li", "pre"]) or tag.name == "pre"]
    return [(tag.name, text) for tag in outer if (text := " ".join(tag.get_text(" ").split()))]


def write_docx(texts: list[tuple[str, str]], path: Path) -> None:
    from docx import Document

    document = Document()
    for tag, text in texts:
        if tag.startswith("h"):
            document.add_heading(text, level=int(tag[1]))
        else:
            document.add_paragraph(text, style="List Bullet" if tag == "li" else None)
    document.save(str(path))


def write_pdf(texts: list[tuple[str, str]], path: Path, font: Path) -> None:
    from fpdf import FPDF

    pdf = FPDF(format="A4")
    pdf.add_page()
    pdf.add_font("Nanum", fname=font)
    for tag, text in texts:
        pdf.set_font("Nanum", size=16 if tag.startswith("h") else 10)
        pdf.multi_cell(0, None, text, new_x="LMARGIN", new_y="NEXT")
        pdf.ln(3)
    pdf.output(str(path))


def tables(folder: Path) -> None:
    """A table of the first packages of each section, in what spreadsheets write: commas, semicolons or tabs."""
    folder.mkdir()
    for section, delimiter in TABLES.items():
        with (folder / f"{section}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, delimiter=delimiter)
            rows.writerow(["package", "version", "size_kb", "summary"])
            rows.writerows(itertools.islice(packages(section), ROWS))


def packages(section: str) -> Iterator[list[str]]:
    from tests.bench.debian import records

    of_section = (record for record in records("Packages") if record.get("Section") == section)
    for record in of_section:
        yield [record["Package"], record["Version"], record.get("Installed-Size", ""), record.get("Description", "")]


if __name__ == "__main__":
    main()
