"""The places in an instruction: where the text stands, and a title of its own.

Represent this document:                 the text follows, behind the encoder's separator
<query>{text}\\n<response>                the text in its place; what follows is read after it
title: {title|none} | text: {text}       a document's title in its place; behind | what stands there without one

An instruction without {title} has title and text read as one text, the title first.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from ragvec.arguments import text as check_text
from ragvec.errors import WrongUsage
from ragvec.records import Titled

_PLACE = re.compile(r"\{(?:text|title(?:\|([^{}]*))?)\}")
_UNTITLED = re.compile(r"\btitle: none\b")  # what EmbeddingGemma's prompts say of a document without a title


class Frame(NamedTuple):
    """What is read around a text: before it, after it, and between its title and it; None = the title is read as text."""

    before: str
    after: str = ""
    between: str | None = None


class Instruction(NamedTuple):
    """An instruction taken apart. titled: around texts that have a title; None = the instruction has no place for one."""

    untitled: Frame
    titled: Frame | None = None

    def frame(self, text: str) -> Frame:
        """What is read around this text."""
        return self.titled if self.titled and isinstance(text, Titled) and text.parts[0] else self.untitled


@lru_cache(maxsize=1024)
def parse(written: str, separator: str = "", prefix: str = "") -> Instruction:
    """Take an instruction apart.

    separator  between an instruction without {text} and the text; where there is one, the instruction is stripped
    prefix     comes before all of it, and has no places
    Raises WrongUsage for a second place of a kind, or a title's behind the text's.
    """
    check_text("instruction", written)
    if "{text}" not in written:
        if separator:
            written = written.strip()
        written += (separator if written else "") + "{text}"
    places = list(_PLACE.finditer(written))
    if [place[0] for place in places].count("{text}") != 1 or len(places) > 2 or places[-1][0] != "{text}":
        raise WrongUsage(
            f"the instruction {written!r:.100} must have one {{text}} at most, and one {{title}} at most, before it: "
            "take the others out"
        )
    text = places[-1]
    after = written[text.end() :]
    if len(places) == 1:
        return Instruction(Frame(prefix + written[: text.start()], after))
    title = places[0]
    before, between = prefix + written[: title.start()], written[title.end() : text.start()]
    return Instruction(Frame(before + (title[1] or "") + between, after), Frame(before, after, between))


def has_places(written: str) -> bool:
    """Whether an instruction says where text or title stand."""
    return _PLACE.search(written) is not None


def with_title_place(prompt: str) -> str:
    """A folder's prompt, with a place for the title where it says that there is none: `title: none | text: `."""
    return _UNTITLED.sub("title: {title|none}", prompt, count=1)
