"""Write the Korean retrieval sets that the bundled encoder is developed with, as BEIR folders for tests.bench.card.

    python -m tests.bench.korean FETCHED KOREAN OUT --data DATA --korquad KorQuAD_v1.0_dev.json --news korean-english-park.dev
    python -m tests.bench.card --retrieval OUT --sts DATA/sts/{korsts.dev,korsts.test,klue-sts.dev}.tsv

FETCHED is what data/recipes/bundled/fetch_korean.py brought, KOREAN what korean.py made of it. Sets: law (questions of
everyday language on the constitution's articles), help (a page's title for its text), korquad, and from Korean into English
help-en, sts-en and news-en. What a part isn't given for is left out. Help pages are those that korean.py keeps out of
training; KorQuAD and the news are measured with only.
"""

import argparse
import csv
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragvec.files import write_text

RECIPE = Path(__file__).parents[2] / "data" / "recipes" / "bundled"
sys.path.insert(0, str(RECIPE))  # the recipe's scripts are no package

import sources  # type: ignore[import-not-found]  # noqa: E402

QUESTIONS = 1_000  # of KorQuAD, and of sentences to be found in English
_LEAST, _MOST = 60, 1_200  # characters of a page's text
_NUMBER = re.compile(r"^(?:부록?\s+)?[\dA-Z.]+장?\.\s+")  # of a chapter
Question = tuple[str, str]  # its text, the doc_id of its answer


def main() -> None:
    """Write every set that there is material for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fetched", type=Path)
    parser.add_argument("korean", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="the recipe's data folder: STS-B and KorSTS side by side")
    parser.add_argument("--korquad", type=Path, help="KorQuAD_v1.0_dev.json (CC BY-ND 2.0 KR)")
    parser.add_argument("--news", type=Path, help="korean-english-park.dev, which .ko and .en follow")
    options = parser.parse_args()
    chance = random.Random(0)
    pages = list(sources.read_jsonl(options.korean / "ko-kept-out.jsonl"))
    write_set(options.out / "ko-law", *law(options.fetched))
    write_set(options.out / "ko-help", *titles(pages))
    translated = [(ko, en) for page in pages for ko, en in page["paragraphs"] if en and len(ko) >= 15]
    write_set(options.out / "ko-help-en", *translations(translated, chance))
    if options.korquad:
        write_set(options.out / "ko-korquad", *korquad(options.korquad, chance))
    if options.data:
        write_set(options.out / "ko-sts-en", *translations(list(sts(options.data)), chance))
    if options.news:
        both = [Path(f"{options.news}.{language}").read_text(encoding="utf-8").splitlines() for language in ("ko", "en")]
        write_set(options.out / "ko-news-en", *translations(list(zip(*both, strict=True)), chance))


def law(fetched: Path) -> tuple[dict[str, str], list[Question]]:
    """The constitution's articles, and the recipe's questions on them."""
    text = next((fetched / "python" / "konlpy").rglob("kolaw/constitution.txt")).read_text(encoding="utf-8")
    found = re.split(r"\n\s+제(\d+)조(?= )", text)
    articles = {}
    for number, body in zip(found[1::2], found[2::2], strict=True):
        if number in articles:  # the addenda count from one again
            break
        articles[number] = " ".join(re.split(r"\n\s*(?:제\d+[장절관]|부칙)", body)[0].split())
    with open(RECIPE / "questions-ko.tsv", encoding="utf-8") as lines:
        return articles, [(row["question"], row["article"]) for row in csv.DictReader(lines, delimiter="\t")]


def titles(pages: list[dict[str, Any]]) -> tuple[dict[str, str], list[Question]]:
    """Pages' texts without their titles, to be found by those; titles that several pages bear ask nothing."""
    texts: dict[str, str] = {}
    named: dict[str, list[str]] = {}
    for page in pages:
        text = " ".join(ko for ko, _ in page["paragraphs"] if ko != page["title"])[:_MOST]
        if len(text) >= _LEAST:
            texts[page["name"]] = text
            named.setdefault(_NUMBER.sub("", page["title"]), []).append(page["name"])
    return texts, [(title, names[0]) for title, names in named.items() if len(names) == 1 and len(title) >= 4]


def korquad(path: Path, chance: random.Random) -> tuple[dict[str, str], list[Question]]:
    """KorQuAD's paragraphs, each once, and some of its questions."""
    paragraphs = [one for article in json.loads(path.read_text(encoding="utf-8"))["data"] for one in article["paragraphs"]]
    ids = {text: str(row) for row, text in enumerate(dict.fromkeys(one["context"] for one in paragraphs))}
    asked = [(question["question"], ids[one["context"]]) for one in paragraphs for question in one["qas"]]
    return {row: text for text, row in ids.items()}, chance.sample(asked, min(len(asked), QUESTIONS))


def sts(data: Path) -> Iterator[tuple[str, str]]:
    """The sentences of KorSTS' dev set with those of STS-B's that they were translated from."""
    ours, theirs = (sources.read_table(data / "sts" / f"{name}.dev.tsv") for name in ("korsts", "stsb-en"))
    for left, right in zip(ours, theirs, strict=True):
        yield from ((left[name], right[name]) for name in ("sentence1", "sentence2"))


def translations(pairs: list[tuple[str, str]], chance: random.Random) -> tuple[dict[str, str], list[Question]]:
    """English texts, each once, to be found by their Korean translations."""
    ids = {text: str(row) for row, text in enumerate(dict.fromkeys(en for _, en in pairs))}
    asked = [(ko, ids[en]) for ko, en in dict(pairs).items()]
    return {row: text for text, row in ids.items()}, chance.sample(asked, min(len(asked), QUESTIONS))


def write_set(folder: Path, texts: dict[str, str], questions: list[Question]) -> None:
    """Write a BEIR folder: corpus, queries, and which text answers which."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write_jsonl(folder / "corpus.jsonl", [{"_id": key, "text": text} for key, text in texts.items()])
    _write_jsonl(folder / "queries.jsonl", [{"_id": f"q{row}", "text": text} for row, (text, _) in enumerate(questions)])
    rows = [f"q{row}\t{answer}\t1" for row, (_, answer) in enumerate(questions)]
    write_text(folder / "qrels" / "test.tsv", "\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n")
    print(f"{folder.name}: {len(questions)} questions, {len(texts)} texts")


def _write_jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
