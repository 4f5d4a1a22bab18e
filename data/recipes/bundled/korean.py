"""Read what fetch_korean.py brought: Korean texts beside their English originals, and Korean texts alone. Nothing samples here.

    python korean.py FETCHED OUT

OUT receives ko-pairs.jsonl (ko, en, source) and ko-texts.jsonl (text, source). A twelfth of the help pages and descriptions,
and the constitution, are kept out: questions on them are what development is measured with (tests/bench/korean.py).
"""

import argparse
import gettext
import gzip
import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from fetch_korean import HELP

_KEPT_OUT = 12  # one of so many pages
_BLOCKS = {"p", "li", "dt", "dd", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "title", "pre", "desc", "item", "note"}
_SILENT = {"script", "style", "nav", "pre", "code", "screen", "head", "header", "footer"}
_HANGUL = re.compile(r"[가-힣]")
_LETTER = re.compile(r"[^\W\d_]")
_MARKUP = re.compile(r"<[^<>]{1,80}>|\$\([^)]*\)|\{\{.*?\}\}")
_ACCELERATOR = re.compile(r"\s*\([&_~]\w\)|[&~](?=\w)|(?<!\w)_(?=\w)")
_SPACES = re.compile(r"\s+")
_LEAST_KOREAN = 0.35  # share of Hangul among the letters of a Korean text
_LONGEST = 1_500  # characters of a paragraph


class Pair(NamedTuple):
    """A Korean text, the English one that it says the same as, and where they are from."""

    ko: str
    en: str
    source: str


class Page(NamedTuple):
    """A help page's paragraphs in both languages, aligned; `en` is empty where a paragraph has no counterpart."""

    name: str
    source: str
    title: str
    paragraphs: list[tuple[str, str]]


def main() -> None:
    """Write both files and print how many came from where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fetched", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pages = [*help_pages(options.fetched), *descriptions(options.fetched)]
    kept_out = [page._asdict() for page in pages if is_kept_out(page.name)]
    print("kept out", _write(options.out / "ko-kept-out.jsonl", kept_out))
    pages = [page for page in pages if not is_kept_out(page.name)]
    rows = (one._asdict() for one in unique([*pairs(pages), *catalogues(options.fetched / "debian")]))
    print("pairs", _write(options.out / "ko-pairs.jsonl", rows))
    texts = {text: source for source, text in korean_texts(pages, options.fetched)}
    print("texts", _write(options.out / "ko-texts.jsonl", [{"text": text, "source": texts[text]} for text in texts]))
    words = dictionary(options.fetched / "debian" / "hunspell-ko")
    (options.out / "words.txt").write_text("\n".join(words), encoding="utf-8")
    print("words", len(words))


def pairs(pages: Iterable[Page]) -> Iterator[Pair]:
    """The paragraphs that are there in both languages."""
    for page in pages:
        yield from (Pair(ko, en, page.source) for ko, en in page.paragraphs if en)


def korean_texts(pages: Iterable[Page], fetched: Path) -> Iterator[tuple[str, str]]:
    """(source, text): paragraphs of pages and bills, Korean alone."""
    for page in pages:
        yield from ((page.source, ko) for ko, _ in page.paragraphs if len(ko) > 20)
    for path in sorted((fetched / "python" / "konlpy").rglob("kobill/*.txt")):
        for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            if is_korean(text := clean(paragraph)) and len(text) > 20:
                yield "bills", text[:_LONGEST]


def unique(found: Iterable[Pair]) -> Iterator[Pair]:
    """Every Korean text once: catalogues repeat each other."""
    seen: set[str] = set()
    for pair in found:
        key = pair.ko.lower()
        if key not in seen:
            seen.add(key)
            yield pair


def is_kept_out(name: str) -> bool:
    """Whether the page of this name is kept for questions: by its name's hash, so that both languages agree."""
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % _KEPT_OUT == 0


def is_korean(text: str) -> bool:
    """Whether a good part of the letters is Hangul: not an untranslated text, nor a command with a Korean word in it."""
    return len(_HANGUL.findall(text)) >= max(2, _LEAST_KOREAN * len(_LETTER.findall(text)))


def clean(text: str) -> str:
    """A message or paragraph as it is read: no markup, no marks of keys (Sa_ve; several "_" are names), single spaces."""
    plain = _ACCELERATOR.sub("", _MARKUP.sub(" ", text))
    plain = plain.replace("_", "") if plain.count("_") == 1 else plain
    return _SPACES.sub(" ", plain.replace("\u200b", "")).strip()


def dictionary(package: Path) -> list[str]:
    """The words of a spelling dictionary that are Hangul alone, of two to eight syllables."""
    lines = next(package.rglob("ko.dic")).read_text(encoding="utf-8").splitlines()
    words = (unicodedata.normalize("NFC", line.partition("/")[0].strip()) for line in lines)
    return list(dict.fromkeys(word for word in words if re.fullmatch("[가-힣]{2,8}", word)))


def catalogues(debian: Path) -> Iterator[Pair]:
    """The messages of all Korean catalogues (.mo), with what they translate."""
    for path in sorted(debian.rglob("LC_MESSAGES/*.mo")):
        if not ({"ko", "ko_KR"} & set(path.parts)):
            continue
        try:
            with path.open("rb") as file:
                messages = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        except (OSError, UnicodeDecodeError, ValueError, LookupError):
            continue  # a catalogue in an encoding that it doesn't name
        for original, translation in messages.items():
            if isinstance(original, tuple) or not isinstance(translation, str) or not original:
                continue
            english, korean = clean(original.rpartition("\x04")[2]), clean(translation)
            if _is_message(english, korean):
                yield Pair(korean, english, "catalogues")


def _is_message(english: str, korean: str) -> bool:
    return len(_LETTER.findall(english)) >= 3 and english.isascii() and len(korean) <= _LONGEST and is_korean(korean)


def descriptions(fetched: Path) -> Iterator[Page]:
    """The packages' descriptions: the short one and each paragraph of the long one where both have as many, else all in one."""
    with gzip.open(fetched / "descriptions.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            korean, english = (_description(row[language]) for language in ("ko", "en"))
            if len(korean) != len(english):
                korean, english = ([found[0], " ".join(found[1:])] for found in (korean, english))
            found = [(ko, en) for ko, en in zip(korean, english, strict=True) if is_korean(ko) and en]
            if found:
                yield Page(f"package {row['package']}", "descriptions", found[0][0], found)


def _description(text: str) -> list[str]:
    short, _, long = text.partition("\n")
    return [clean(short), *(clean(part) for part in re.split(r"\n \.\n", long) if clean(part))]


def help_pages(fetched: Path) -> Iterator[Page]:
    """Every help page that there is in both languages, its paragraphs aligned."""
    debian = fetched / "debian"
    for korean, english in sorted(page_files(debian)):
        ours, theirs = read_blocks(korean), read_blocks(english)
        found = align(ours, theirs)
        if found:
            title = next((ko for ko, _ in found if len(ko) > 1), "")
            yield Page(str(korean.relative_to(debian)), "help", title, found)


def page_files(debian: Path) -> Iterator[tuple[Path, Path]]:
    """Korean pages and their English twins: in a folder beside (en, en-US, C) or with another ending, in one package or two."""
    for package in HELP:
        for folder, _, names in os.walk(debian / package):
            for name in names:
                path = Path(folder, name)
                if name.endswith((".html", ".page", ".ko.euc-kr")):
                    twin = next(
                        (one for one in _twins(debian, package, path.relative_to(debian / package)) if one.is_file()), None
                    )
                    if twin:
                        yield path, twin


def _twins(debian: Path, package: str, path: Path) -> Iterator[Path]:
    """Where the English page may lie."""
    if path.name.endswith(".ko.euc-kr"):  # Apache's manual
        yield debian / package / path.with_name(path.name.replace(".ko.euc-kr", ".en"))
    elif "ko" in path.parts:
        place = len(path.parts) - 1 - path.parts[::-1].index("ko")
        for language, ending in (("en-US", "en-us"), ("en", "en"), ("C", "en")):
            folder = Path(*path.parts[:place], language, *path.parts[place + 1 : -1])
            yield debian / re.sub(r"-ko$", f"-{ending}", package) / folder / path.name
        yield debian / package.removesuffix("-ko") / Path(*path.parts[:place]) / path.name.replace(".ko.", ".en.")


class _Blocks(HTMLParser):
    """Collects the text of block elements: (key, text), where the key is an id if there is one."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, str]] = []
        self._silent = 0
        self._key, self._words = "", [""]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        if tag in _BLOCKS:
            self._flush()
            self._key = f"{tag} {dict(attributes).get('id') or ''}"

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        if tag in _BLOCKS:
            self._flush()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._words.append(data)

    def _flush(self) -> None:
        if text := clean("".join(self._words)):
            self.found.append((self._key, text))
        self._words = []


def read_blocks(path: Path) -> list[tuple[str, str]]:
    """The text blocks of an HTML or Mallard page in order: (tag and id, text)."""
    parser = _Blocks()
    parser.feed(path.read_bytes().decode("euc-kr" if path.name.endswith("euc-kr") else "utf-8", "replace"))
    parser.close()
    return parser.found


def align(korean: list[tuple[str, str]], english: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Korean blocks with their English counterparts: by id, or in order if both pages have the same blocks; else without."""
    ids = {key: text for key, text in english if not key.endswith(" ")}
    same = [key for key, _ in korean] == [key for key, _ in english]
    found = []
    for row, (key, text) in enumerate(korean):
        other = english[row][1] if same else ids.get(key, "")
        if len(text) <= _LONGEST and is_korean(text):
            found.append((text, other if _LETTER.search(other) and not _HANGUL.search(other) else ""))
    return found


def _write(path: Path, rows: Iterable[dict]) -> dict[str, int]:
    counts: Counter = Counter()
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            counts[row["source"]] += 1
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return dict(counts)


if __name__ == "__main__":
    main()
