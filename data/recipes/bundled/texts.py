"""Choose what the bundled encoder is trained on: running text, distillation texts with their targets, pairs.

Every choice is made with a fixed seed, and everything passes the guard.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import sources
from everyday import Variants
from guard import Guard

_LEAST, _MOST = 20, 400  # characters of a sentence worth distilling
_SAMPLES = {"wikitext": 40_000, "books": 20_000, "reuters": 3_000}  # distillation texts per source
_SENTENCES = {"scifact": 25_000, "nfcorpus": 20_000, "scitldr": 10_000, "cranfield": 10_000}  # out of documents
_DISTILLED = 300_000  # texts that the teacher reads, chosen from all of these by chance
_EVERYDAY = {"stsb-en": 16, "sick": 10, "sts12": 12, "msrp": 3}  # variants of each sentence in an STS table's training split
_EVERYDAY_EXAMPLES = 20_000  # of WordNet, a variant of each
_BLOCK = 500  # rows that share batches: a sentence and its variants, so that telling them apart is what is learnt
_REVIEWED = 50_000  # texts of the distillation that are read again beside them
_BOOK_PARAGRAPHS = 40_000  # for the language model
_PAIRS_PER_QUERY = {"nfcorpus": 1}  # it has dozens of loosely relevant documents per query
_PAIRS_PER_SOURCE = {  # what costs many tokens, or is far from what is searched, has less of a say
    "title": 3_000, "scitldr": 800, "wikitext2-heading": 1_000, "reuters": 800, "banking77": 2_500, "ko-chatbot": 1_500,
}  # fmt: skip
_REPEATS = {"scifact": 3}  # each time with other hard negatives
_QUERIES_APART = ("scifact", "nfcorpus")  # one of two sets of pairs does without their training queries
_STS_POSITIVE = 4.0  # STS score from which two sentences are a positive pair


class Filter:
    """Passes texts the guard has nothing against, and counts what it left out by source and reason."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.kept: Counter = Counter()
        self.dropped: dict[str, Counter] = defaultdict(Counter)

    def passes(self, source: str, *texts: str) -> bool:
        """Whether none of the texts of one training row is guarded."""
        reason = next(filter(None, map(self._guard.reason, texts)), None)
        if reason:
            self.dropped[source][reason] += 1
        else:
            self.kept[source] += 1
        return reason is None

    def report(self) -> dict:
        """What was kept and dropped, as JSON values."""
        names = sorted({*self.kept, *self.dropped})
        return {name: {"kept": self.kept[name], **self.dropped.get(name, {})} for name in names}


def write_texts(data: Path, wordnet: Path, out: Path, *, seed: int) -> None:
    """Write the training files to `out`, and guard.json, which counts what was left out.

    lm, distill, everyday, pairs, and pairs-apart: the pairs without SciFact's and NFCorpus' training queries; all .jsonl
    """
    guard = Guard(sources.guarded_texts(data))
    report: dict = {"guarded texts": len(guard)}
    makers = {
        "lm": lambda accept: _lm_rows(data, accept, random.Random(seed)),
        "distill": lambda accept: _distill_rows(data, wordnet, accept, random.Random(seed)),
        "everyday": lambda accept: _everyday_rows(data, wordnet, accept, random.Random(seed)),
        "pairs": lambda accept: pair_rows(data, accept, random.Random(seed)),
    }
    rows: dict[str, list[dict]] = {}
    for name, make in makers.items():
        accept = Filter(guard)
        rows[name] = make(accept)
        report[name] = accept.report()
    rows["everyday"] += sample(rows["distill"], _REVIEWED, random.Random(seed))
    rows["pairs-apart"] = [row for row in rows["pairs"] if row["source"] not in _QUERIES_APART]
    for name, found in rows.items():
        sources.write_jsonl(out / f"{name}.jsonl", found)
    (out / "guard.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def _lm_rows(data: Path, accept: Filter, chance: random.Random) -> list[dict]:
    """Running text for the language model, shuffled: documents, articles, paragraphs, Korean sentences."""
    found: dict[str, Iterable[str]] = {
        name: [" ".join(both).strip() for both in sources.documents(data, name).values()] for name in sources.CORPORA
    }
    found["reuters"] = [f"{title}. {text}" for title, text in sources.reuters(data)]
    found["wikitext"] = [text for text in sources.wikitext(data) if text.count("<unk>") < 3]
    found["books"] = sample(sources.books(data), _BOOK_PARAGRAPHS, chance)
    found["korean"] = _korean(data)
    rows = [{"text": text, "source": name} for name, texts in found.items() for text in texts if accept.passes(name, text)]
    chance.shuffle(rows)
    return rows


def _korean(data: Path) -> Iterator[str]:
    for row in sources.pairs(data):
        if row["source"].startswith(("ko", "klue")):
            yield f"{row['query']} {row['positive']}"
    for _, _, korean in sources.parallel_sts(data):
        yield " ".join(korean)


def _distill_rows(data: Path, wordnet: Path, accept: Filter, chance: random.Random) -> list[dict]:
    """Texts to distil; `target` is the text the teacher reads where that is another one (a translation)."""
    rows, seen = [], set()
    for source, text in [*candidates(data, wordnet, chance), *_running(data, chance)]:
        if text.strip() and text not in seen and accept.passes(source, text):
            seen.add(text)
            rows.append({"text": text, "source": source})
    for _, english, korean in sources.parallel_sts(data):
        if not accept.passes("korsts", *english, *korean):
            continue
        for text, target in zip(korean, english, strict=True):
            if text not in seen:
                seen.add(text)
                rows.append({"text": text, "source": "korsts", "target": target})
    chance.shuffle(rows)
    return rows[:_DISTILLED]


def candidates(data: Path, wordnet: Path, chance: random.Random) -> Iterator[tuple[str, str]]:
    """(source, text) of English texts to distil, but running text."""
    for name in sources.CORPORA:
        documents = sources.documents(data, name).values()
        pieces = (piece for title, text in documents for piece in [title, *sources.sentences(text)] if _fits(piece))
        yield from ((f"{name} documents", f"{title} {text}".strip()) for title, text in documents)
        yield from ((f"{name} sentences", piece) for piece in sample(pieces, _SENTENCES[name], chance))
    yield from (("scitldr train queries", text) for text in sources.queries(data, "scitldr", "train"))
    yield from (("wordnet", text) for text in sources.wordnet(wordnet) if _fits(text))
    for _, english, _ in sources.parallel_sts(data):
        yield from (("stsb train", text) for text in english)
    for row in sources.pairs(data):
        if row["source"] in ("banking77", "msrp", "trecqa"):
            yield from ((row["source"], text) for text in (row["query"], row["positive"]))
    articles = list(sources.reuters(data))
    yield from (("reuters", title) for title, _ in articles)
    yield from (("reuters", f"{title}. {text[:600]}") for title, text in sample(articles, _SAMPLES["reuters"], chance))


def _running(data: Path, chance: random.Random) -> Iterator[tuple[str, str]]:
    for name, paragraphs in {"wikitext": sources.wikitext(data), "books": sources.books(data)}.items():
        pieces = (piece for paragraph in paragraphs for piece in sources.sentences(paragraph) if _fits(piece))
        yield from ((name, piece) for piece in sample(pieces, _SAMPLES[name], chance))


def _everyday_rows(data: Path, wordnet: Path, accept: Filter, chance: random.Random) -> list[dict]:
    """Sentences of STS training splits and WordNet's examples, each followed by its variants; a block of rows is a source."""
    given = {name: list(dict.fromkeys(sources.sts_sentences(data, name))) for name in _EVERYDAY}
    examples = [text for text in sources.wordnet(wordnet) if ":" not in text and _fits(text)]
    variants = Variants([*(text for found in given.values() for text in found), *examples], chance)
    wanted = [(name, text, count) for name, count in _EVERYDAY.items() for text in given[name]]
    wanted += [("wordnet", text, 1) for text in sample(examples, _EVERYDAY_EXAMPLES, chance)]
    found: dict[str, str] = {}
    for name, text, count in wanted:
        found.update(dict.fromkeys([text, *variants.of(text, count)], name))
    kept = [text for text, name in found.items() if text and accept.passes(f"{name} train", text)]
    return [{"text": text, "source": f"everyday {row // _BLOCK}"} for row, text in enumerate(kept)]


def pair_rows(data: Path, accept: Filter, chance: random.Random) -> list[dict]:
    """Contrastive pairs: the given ones, titles with their abstracts, and STS pairs that mean the same."""
    candidates = list(sources.pairs(data))
    for name in sources.CORPORA:
        for title, text in sources.documents(data, name).values():
            if len(title) >= _LEAST and len(text) >= _LEAST:
                candidates.append({"query": title, "positive": text, "negatives": [], "source": "title"})
    for score, *languages in sources.parallel_sts(data):
        for source, (left, right) in zip(("stsb", "korsts"), languages, strict=True):
            if score >= _STS_POSITIVE:
                candidates.append({"query": left, "positive": right, "negatives": [], "source": source})
    chance.shuffle(candidates)
    return [turn for row in _limited(candidates, accept) for turn in _turns(row)]


def _limited(candidates: list[dict], accept: Filter) -> Iterator[dict]:
    """The candidates that the guard passes, up to the limits per query and source."""
    by_query, by_source = Counter(), Counter()
    for row in candidates:
        source, query = row["source"], (row["source"], row["query"])
        if by_query[query] >= _PAIRS_PER_QUERY.get(source, 10**9) or by_source[source] >= _PAIRS_PER_SOURCE.get(source, 10**9):
            continue
        texts = (row["query"], row["positive"], *row["negatives"])
        if texts[0] != texts[1] and accept.passes(source, *texts):
            by_query[query] += 1
            by_source[source] += 1
            yield row


def _turns(row: dict) -> Iterator[dict]:
    """The row as often as its source is repeated, its negatives turned round each time."""
    negatives = row["negatives"]
    for turn in range(_REPEATS.get(row["source"], 1)):
        yield {**row, "negatives": negatives[turn:] + negatives[:turn]}


def _fits(text: str) -> bool:
    return _LEAST <= len(text) <= _MOST and "<unk>" not in text


def sample(found: Iterable, size: int, chance: random.Random) -> list:
    """`size` of what was found, each as likely as the other, in one pass and without holding the rest."""
    kept: list = []
    for count, item in enumerate(found):
        if count < size:
            kept.append(item)
        elif (place := chance.randrange(count + 1)) < size:
            kept[place] = item
    return kept
