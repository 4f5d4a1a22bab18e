"""Questions of a kind to Korean passages, for contrastive training beside English pairs.

    python pairs_korean.py DATA FETCHED OUT.jsonl

No one asked them: a question is what is left of a sentence of the passage when words fall out of it and particles off its
words, with the ending of a question at times, or a page's title. So what is learnt is which words tell a passage from others.
Pages that korean.py keeps out stay out. The English pairs are those of texts.py; the guard leaves out what resembles an
evaluation text.
"""

import argparse
import random
import re
from collections.abc import Iterator
from pathlib import Path

import sources
import texts
from guard import Guard
from korean import Page, clean, descriptions, help_pages, is_kept_out, is_korean

_LENGTH = 150, 600  # characters of a passage, at least and about
_QUESTIONS = 3  # of a passage
_ENDINGS = ("무엇인가?", "무엇인가요?", "어디인가?", "누구인가?", "언제인가?", "얼마인가?", "어떻게 하나요?", "왜 그런가요?")
_PARTICLE = re.compile(r"(?<=[가-힣]{2})(?:에서는|에서|으로|부터|까지|은|는|이|가|을|를|의|에|로|와|과|도|만)$")
_SENTENCE = re.compile(r"(?<=[.?!])\s+")


def main() -> None:
    """Write the pairs and print how many of which kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("fetched", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    accept = texts.Filter(Guard(sources.guarded_texts(options.data)))
    rows = [row for page in pages(options.fetched) for row in questions(page, chance)]
    rows = [row for row in rows if accept.passes(row["source"], row["query"], row["positive"])]
    rows += texts.pair_rows(options.data, accept, chance)
    chance.shuffle(rows)
    sources.write_jsonl(options.out, rows)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["source"]] = counts.get(row["source"], 0) + 1
    print(counts)


def pages(fetched: Path) -> Iterator[Page]:
    """Help pages, package descriptions, and bills as pages of their paragraphs."""
    yield from (page for page in (*help_pages(fetched), *descriptions(fetched)) if not is_kept_out(page.name))
    for path in sorted((fetched / "python" / "konlpy").rglob("kobill/*.txt")):
        found = [clean(part) for part in re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))]
        yield Page(path.name, "bills", "", [(text, "") for text in found if is_korean(text)])


def questions(page: Page, chance: random.Random) -> list[dict]:
    """Rows of query, positive, negatives: a passage's neighbour on its page is a negative."""
    passages = joined([ko for ko, _ in page.paragraphs])
    rows = []
    for number, passage in enumerate(passages):
        near = passages[number + 1 :][:1] or passages[:number][-1:]
        sentences = [text for part in passage for text in _SENTENCE.split(part) if len(text.split()) >= 4]
        asked = [question(text, chance) for text in chance.sample(sentences, min(_QUESTIONS, len(sentences)))]
        if page.title and number == 0:
            asked.append(page.title)
        text = " ".join(passage)
        rows += [
            {"query": query, "positive": text, "negatives": [" ".join(one) for one in near], "source": f"ko-{page.source}"}
            for query in asked
        ]
    return rows


def joined(paragraphs: list[str]) -> list[list[str]]:
    """The paragraphs in runs of a passage's length."""
    runs: list[list[str]] = [[]]
    for text in dict.fromkeys(paragraphs):
        if sum(map(len, runs[-1])) + len(text) > _LENGTH[1] and sum(map(len, runs[-1])) >= _LENGTH[0]:
            runs.append([])
        runs[-1].append(text[: 2 * _LENGTH[1]])
    return [run for run in runs if sum(map(len, run)) >= _LENGTH[0]]


def question(sentence: str, chance: random.Random) -> str:
    """Two words of it at least, in their order."""
    words = sentence.split()
    chosen = sorted(chance.sample(range(len(words)), chance.randint(2, max(2, min(8, 2 * len(words) // 3)))))
    found = [_PARTICLE.sub("", words[place]) if chance.random() < 0.4 else words[place] for place in chosen]
    return " ".join([*found, chance.choice(_ENDINGS)] if chance.random() < 0.5 else found)


if __name__ == "__main__":
    main()
