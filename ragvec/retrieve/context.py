"""Passages as a language model is given them: bounded in tokens, each under the number it is cited by."""

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ragvec.corpus.chunk import CountTokens, Cutter
from ragvec.errors import WrongInput
from ragvec.index import IndexSettings
from ragvec.index.origin import BUNDLED
from ragvec.records import Document, Hit

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

TASK = (
    "Answer the question from the passages below alone. Cite each passage you use by its number, such as [1]. "
    "If the passages do not hold the answer, say so."
)
LEAST_CUT = 16  # tokens of a passage that must fit for it to be cut rather than left out
CUT_END = " …\n\n"
MOST_CHARACTERS_PER_TOKEN = 64  # what lies beyond this times the room is not even counted
_KEPT = "\n\t\u200c\u200d"  # lines, tabs, and the joiners that Persian, Hindi and emoji are written with


class Context(NamedTuple):
    """A prompt ready to paste, its length in tokens, and its passages: the one cited as [n] is sources[n - 1]."""

    text: str
    tokens: int
    sources: list[Hit]

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        names = ("doc_id", "passage_id", "title", "score")
        sources = [{"number": n, **{name: getattr(hit, name) for name in names}} for n, hit in enumerate(self.sources, 1)]
        return {"text": self.text, "tokens": self.tokens, "sources": sources}


def build_context(query: str, hits: Sequence[Hit], max_tokens: int, count_tokens: CountTokens) -> Context:
    """The task, the best passages under their numbers, and the question, in at most `max_tokens` tokens.

    hits          best first; passages are taken in this order, and the first that does not fit whole is cut at a sentence's end
    count_tokens  the number of tokens of each of several strings, such as `Encoder.count_tokens`
    Raises RagvecError if not even the beginning of one passage fits. Without hits the context is empty.
    """
    frame = [f"{TASK}\n\n", f"\n\nQuestion: {_printable(query)}\n"]
    room = max_tokens - sum(count_tokens(frame))
    blocks: list[str] = []
    for number, hit in enumerate(hits, 1):
        block = _block(number, hit, room, count_tokens)
        blocks += [block] if block else []
        room -= count_tokens([f"{block}\n\n"])[0]
        if len(blocks) < number or room <= 0:
            break
    while blocks:  # tokens of parts add up to those of the whole with most tokenizers, not with all
        text = frame[0] + "\n\n".join(blocks) + frame[1]
        [tokens] = count_tokens([text])
        if tokens <= max_tokens:
            return Context(text, tokens, list(hits[: len(blocks)]))
        blocks.pop()
    if hits:
        least = max_tokens - room + sum(count_tokens([_heading(1, hits[0]), CUT_END])) + LEAST_CUT
        raise WrongInput(f"no passage fits a context of {max_tokens} tokens: allow {least} or more")
    return Context("", 0, [])


def token_counter(settings: IndexSettings, encoder: "Encoder | None" = None) -> CountTokens:
    """Counts the tokens of an index's encoder; where that is not loaded, its tokenizer is, without the weights."""
    if encoder is not None:
        return encoder.count_tokens
    from ragvec.data import data_path
    from ragvec.encoder.sources import locate
    from ragvec.encoder.weights import load_tokenizer

    recorded = settings.encoder_source
    source = str(data_path("encoder")) if recorded == BUNDLED else recorded
    found = locate(source, revision=settings.encoder_options.get("revision"))
    tokenizer = load_tokenizer(found.tokenizer).backend_tokenizer
    tokenizer.no_truncation()
    return lambda texts: [len(one.ids) for one in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def _block(number: int, hit: Hit, room: int, count_tokens: CountTokens) -> str:
    """A passage under its number; cut where it is longer than the room, "" where there is no room to speak of."""
    heading = _heading(number, hit)
    text = _printable(hit.text[: max(room, 0) * MOST_CHARACTERS_PER_TOKEN]).strip()
    heading_tokens, tokens = count_tokens([heading, f"{text}\n\n"])
    room -= heading_tokens
    if tokens <= room:
        return heading + text
    room -= count_tokens([CUT_END])[0]
    if room < LEAST_CUT:
        return ""
    return f"{heading}{Cutter(count_tokens, room).cut(Document('', text))[0].text}{CUT_END.rstrip()}"


def _heading(number: int, hit: Hit) -> str:
    title = " ".join(_printable(hit.title).split())
    name = " ".join(_printable(hit.doc_id).split())
    return f"[{number}] {title} ({name})\n" if title else f"[{number}] ({name})\n"


def _printable(text: str) -> str:
    """The text without control, format and surrogate characters: what nobody sees must not speak to a language model."""
    return "".join(char for char in text if char in _KEPT or unicodedata.category(char) not in ("Cc", "Cs", "Cf"))
