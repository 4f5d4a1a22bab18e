"""Passages as a language model is given them: bounded in tokens, each under the number it is cited by."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import regex

from ragvec.corpus.chunk import CountTokens, Cutter
from ragvec.errors import WrongUsage
from ragvec.index import IndexSettings
from ragvec.index.encoder import BUNDLED, NO_ENCODER
from ragvec.records import Document, Hit
from ragvec.retrieve.templates import Template, template_for

if TYPE_CHECKING:
    from ragvec.encoder.protocol import TextEncoder

LEAST_CUT = 16  # tokens of a passage that must fit for it to be cut rather than left out
CUT_END = " …\n\n"
MOST_CHARACTERS_PER_TOKEN = 64  # what lies beyond this times the room is not even counted
LONGEST_NAME = 200  # characters of a title or an id that are shown
QUOTE = "> "
_LINE_END = regex.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_BLANK_LINES = regex.compile(r"\n\s*\n")
_EMPTY_END = regex.compile(r"(\n>[^\S\n]*)+$")
_NUMBER = regex.compile(r"\[(\d+)\]")
# What nobody sees: control and format characters (not the signs that Arabic puts under numbers), and what Unicode lets a
# font ignore, such as variation selectors and tags. Joiners are looked at next.
_UNSEEN = regex.compile(
    r"[\p{Cc}\p{Cs}\p{Cf}\p{Default_Ignorable_Code_Point}--[\n\t\u200c\u200d\p{Prepended_Concatenation_Mark}]]", regex.V1
)
# A joiner has a meaning after a letter of a script whose letters join, and between emoji; never after another joiner.
_IDLE_JOINER = regex.compile(
    r"(?<![\p{L}\p{M}--[\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}\p{Common}\p{Inherited}]])"
    r"(?:\u200c|(?<![\p{Extended_Pictographic}\p{Emoji_Modifier}])\u200d|\u200d(?!\p{Extended_Pictographic}))",
    regex.V1,
)
# What begins a mark of a chat's template, such as <|im_start|>, [INST], <start_of_turn>, </s>, [|user|]: servers read it as
# the mark itself wherever it stands, and a passage would speak as the user or the system.
_MARK = regex.compile(
    r"(?<=[<\[])(?=[|\uff5c])"
    r"|(?<=<)(?=/?(?:s|bos|eos|pad|think|(?:start|end)_of_turn)>|<?/?SYS>>)"
    r"|(?<=\[)(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+)\])",
    regex.IGNORECASE,
)


class Context(NamedTuple):
    """A prompt ready to paste, its length in tokens, and its passages: the one cited as [n] is sources[n - 1]."""

    text: str
    tokens: int
    sources: list[Hit]

    def record(self) -> dict[str, Any]:
        """The text, its tokens and what its numbers stand for, as JSON values."""
        names = ("doc_id", "passage_id", "title", "score")
        sources = [{"number": n, **{name: getattr(hit, name) for name in names}} for n, hit in enumerate(self.sources, 1)]
        return {"text": self.text, "tokens": self.tokens, "sources": sources}


def build_context(
    query: str, hits: Sequence[Hit], max_tokens: int, count_tokens: CountTokens, *, template: Template | None = None
) -> Context:
    """The task, the best passages under their numbers, and the question, in at most `max_tokens` tokens.

    hits          best first; passages are taken in this order, and the first that does not fit whole is cut at a sentence's end
    count_tokens  the number of tokens of each of several strings, such as `Encoder.count_tokens`
    template      the prompt around them; None = in the question's language, see ragvec.retrieve.templates

    A passage's lines are quoted, so that only headings begin with a number in brackets, and only the question's line with
    its word, whatever the passages hold. Characters that nobody sees are left out, and what chat models take for the
    end of a turn, such as <|im_end|>, is taken apart.
    Raises RagvecError if not even the beginning of one passage fits. Without hits the context is empty.
    """
    frame = (template or template_for(query)).around(" ".join(_printable(query).split()))
    room = max_tokens - sum(count_tokens(frame))
    blocks: list[str] = []
    for number, hit in enumerate(hits, 1):
        block = _block(number, hit, room, count_tokens)
        blocks += [block] if block else []
        room -= count_tokens([f"{block}\n\n"])[0]
        if len(blocks) < number or room <= 0:
            break
    while blocks:  # tokens of parts add up to those of the whole with most tokenizers, not with all
        text = "\n\n".join(blocks).join(frame)
        [tokens] = count_tokens([text])
        if tokens <= max_tokens:
            return Context(text, tokens, list(hits[: len(blocks)]))
        blocks.pop()
    if hits:
        least = max_tokens - room + sum(count_tokens([_heading(1, hits[0]), QUOTE, CUT_END])) + LEAST_CUT
        raise WrongUsage(f"no passage fits a context of {max_tokens} tokens: allow {least} or more")
    return Context("", 0, [])


def token_counter(settings: IndexSettings, encoder: "TextEncoder | None" = None, *, offline: bool = False) -> CountTokens:
    """Counts the tokens of an index's encoder; where that is not loaded, its tokenizer is, without the weights."""
    if encoder is not None:
        return encoder.count_tokens
    from ragvec.data import data_path
    from ragvec.encoder.door import foreign
    from ragvec.encoder.prompt import UNREADABLE
    from ragvec.encoder.sources import locate
    from ragvec.encoder.weights import load_tokenizer

    recorded = settings.encoder_source
    source = str(data_path("encoder")) if recorded in (BUNDLED, NO_ENCODER) else recorded
    located = locate(source, revision=settings.encoder_options.get("revision"), offline=offline, named_by="the index")
    tokenizer = load_tokenizer(located.tokenizer).backend_tokenizer
    tokenizer.no_truncation()

    def count(texts: Sequence[str]) -> list[int]:
        with foreign(UNREADABLE):
            return [len(one.ids) for one in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    return count


def _block(number: int, hit: Hit, room: int, count_tokens: CountTokens) -> str:
    """A passage under its number; cut where it is longer than the room, "" where there is no room to speak of."""
    heading = _heading(number, hit)
    text = quoted(hit.text[: max(room, 0) * MOST_CHARACTERS_PER_TOKEN])
    heading_tokens, tokens = count_tokens([heading, f"{text}\n\n"])
    room -= heading_tokens
    if tokens <= room:
        return heading + text
    room -= count_tokens([CUT_END])[0]
    if room < LEAST_CUT:
        return ""
    beginning = _EMPTY_END.sub("", Cutter(count_tokens, room).cut(Document("prompt", text))[0].text)
    return f"{heading}{beginning}{CUT_END.rstrip()}"


def _heading(number: int, hit: Hit) -> str:
    title, name = _name(hit.title), _name(hit.doc_id)
    return f"[{number}] {title} ({name})\n" if title else f"[{number}] ({name})\n"


def _name(text: str) -> str:
    """A title or an id on one line, without what looks like a source's number."""
    line = _NUMBER.sub(r"(\1)", " ".join(_printable(text).split()))
    return line if len(line) <= LONGEST_NAME else f"{line[:LONGEST_NAME].rstrip()}…"


def quoted(text: str) -> str:
    """A passage with a mark before each of its lines, blank lines next to each other made one."""
    lines = _BLANK_LINES.sub("\n\n", _printable(text).strip()).split("\n")
    return "\n".join(f"{QUOTE}{line}".rstrip() for line in lines)


def _printable(text: str) -> str:
    """The text without what nobody sees and without whole marks of a chat's turns; every end of a line is a newline."""
    if not (text.isascii() and text.isprintable()):
        text = _IDLE_JOINER.sub("", _UNSEEN.sub("", _LINE_END.sub("\n", text)))
    whole: str = _MARK.sub(" ", text)
    return whole
