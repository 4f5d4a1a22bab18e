"""From instruction and text to token ids, and to the positions that are pooled.

Instruction and text stay separate pieces: no separator is written into the string, so none is searched for in what users wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragvec.arguments import strings
from ragvec.encoder.door import foreign
from ragvec.encoder.instruction import Frame, Instruction, parse
from ragvec.errors import WrongInput, WrongUsage
from ragvec.records import Titled

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Prompts:
    """Token ids of n texts, without padding; never empty.

    pool_starts  the first pooled position of each text (the rest of the prompt is pooled)
    truncated    whether the text was shortened to fit
    texts        what was tokenized of each text
    """

    ids: list[list[int]]
    pool_starts: list[int]
    truncated: list[bool]
    texts: list[str]


UNREADABLE = "the tokenizer can't read a text"
_MOST_CHARACTERS_PER_TOKEN = 256  # a text beyond this times the token limit is cut unread: 100 MB lines exist


class PromptBuilder:
    """Builds the reference's token ids: template prefix, instruction, separator, text, template suffix.

    An instruction may have places for text and title (ragvec.encoder.instruction). A title in a place of its own is text
    too: it is pooled, counts in doc_max_length, and is shortened once nothing of the text is left.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        prefix: str = "",
        suffix: str = "",
        separator: str = " ",
        max_length: int,
        doc_max_length: int,
        skip_instruction: bool,
        border: str = "text",
    ) -> None:
        """Prepare a transformers tokenizer backed by `tokenizers`.

        separator       between instruction and text; "" joins them as they are
        max_length      limit of the whole prompt in tokens, special tokens included; doc_max_length: of the text alone
        skip_instruction  pool the text only, not what comes before it; border: where that begins, as in EncoderSettings
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise WrongInput(f"{type(tokenizer).__name__} has no tokenizer.json: convert it to a fast tokenizer first")
        self._prefix, self._suffix, self._separator = prefix, suffix, separator
        self._max_length, self._doc_max_length = max_length, doc_max_length
        self._skip_instruction, self._border = skip_instruction, border
        with foreign("the tokenizer can't be used"):
            self._shared, self._splits = backend, backend.encode_special_tokens
            self._front, self._back = special_ids(self._backend)
            self._special = set(tokenizer.all_special_ids)
        self._lone = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0

    def build(self, texts: Sequence[str], instruction: str = "") -> Prompts:
        """Tokenize texts, each after the same instruction ("" = none).

        A text over doc_max_length tokens, or one whose prompt would pass max_length, is shortened by tokens; template and
        instruction stay whole. Raises RagvecError if they alone fill max_length, and for a lone string.
        """
        texts = strings("texts", texts, "text")
        if not len(texts):
            return Prompts([], [], [], [])
        form = self._parse(instruction)
        longest = _MOST_CHARACTERS_PER_TOKEN * self._doc_max_length
        kept = [_first(text, longest) if len(text) > longest else text for text in texts]
        truncated = [len(text) > longest for text in texts]
        ids, pool_starts, text_lengths = self._tokenize(form, kept)
        for row, text in enumerate(kept):
            if text_lengths[row] > self._doc_max_length or len(ids[row]) > self._max_length:
                ids[row], pool_starts[row], kept[row] = self._shorten(form, text, text_lengths[row], len(ids[row]))
                truncated[row] = True
        if not self._skip_instruction:
            pool_starts = [0] * len(kept)
        elif self._border == "prompt":
            borders = {frame: self._prompt_length(frame.before) for frame in form if frame is not None}
            pool_starts = [borders[form.frame(text)] for text in kept]
        return Prompts([row or [self._lone] for row in ids], pool_starts, truncated, kept)

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, by itself: without template, special tokens or a limit."""
        return [len(ids) for ids in self._encode(list(texts))]

    def room(self, instruction: str = "") -> int:
        """The most tokens of a text that are read after this instruction; may be 0 or less."""
        [whole], _, [length] = self._tokenize(self._parse(instruction), ["a"])
        return min(self._doc_max_length, self._max_length - (len(whole) - length))

    def frame(self, instruction: str) -> Frame:
        """What is read around a text without a title: template and instruction before it, what the instruction has after it."""
        return self._parse(instruction).untitled

    def offsets(self, instruction: str, text: str) -> list[tuple[int, int]]:
        """Where each token of a prompt lies in the text, as character offsets; (0, 0) for all that is not text."""
        frame = self._parse(instruction).frame(text)
        inside = self._backend.encode(frame.before + self._body(frame, text), add_special_tokens=False).offsets
        pieces = _pieces(frame, text)
        return [*[(0, 0)] * len(self._front), *(_within(span, pieces) for span in inside), *[(0, 0)] * len(self._back)]

    @property
    def _backend(self) -> "Tokenizer":
        """The tokenizer's backend as it was: whoever calls the tokenizer leaves padding, a limit and more behind in it."""
        backend: Tokenizer = self._shared
        if backend.padding is not None:
            backend.no_padding()
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.encode_special_tokens != self._splits:
            backend.encode_special_tokens = self._splits
        return backend

    def _parse(self, instruction: str) -> Instruction:
        """An instruction taken apart, the template's prefix before it."""
        return parse(instruction, self._separator, self._prefix)

    def _body(self, frame: Frame, text: str) -> str:
        """A text, its title before it where that has a place, and what is read after it."""
        if frame.between is not None and isinstance(text, Titled):
            text = frame.between.join(text.parts)
        return (text.rstrip() if self._suffix else text) + frame.after + self._suffix

    def _tokenize(self, form: Instruction, texts: Sequence[str]) -> tuple[list[list[int]], list[int], list[int]]:
        """ids of whole prompts, where their texts start, and the texts' own lengths, in one tokenizer call.

        As in the reference, a text's length is that of its own tokenization, counted back from the end.
        """
        frames = [form.frame(text) for text in texts]
        bodies = [self._body(frame, text) for frame, text in zip(frames, texts, strict=True)]
        if any(frame.before for frame in set(frames)):
            encoded = self._encode([frame.before + body for frame, body in zip(frames, bodies, strict=True)] + bodies)
            wholes, alone = encoded[: len(bodies)], encoded[len(bodies) :]
        else:
            wholes = alone = self._encode(bodies)
        fixed = len(self._front)
        starts = [fixed + max(len(whole) - len(body), 0) for whole, body in zip(wholes, alone, strict=True)]
        around = {frame: self._around(frame) for frame in set(frames)}
        lengths = [len(body) - around[frame] for frame, body in zip(frames, alone, strict=True)]
        return [[*self._front, *whole, *self._back] for whole in wholes], starts, lengths

    def _around(self, frame: Frame) -> int:
        """The tokens of a body that are not text."""
        parts = [part for part in (frame.between, frame.after + self._suffix) if part]
        return sum(map(len, self._encode(parts))) if parts else 0

    def _shorten(self, form: Instruction, text: str, text_length: int, total: int) -> tuple[list[int], int, str]:
        """Cut a text at a token's end until it fits both limits; returns ids, first pooled position and the text kept."""
        overhead = total - text_length
        budget = min(self._doc_max_length, self._max_length - overhead)
        if budget < 1:
            raise WrongUsage(
                f"instruction and template take {overhead} tokens of max_length {self._max_length}: "
                "shorten the instruction or raise `max_length`"
            )
        with foreign(UNREADABLE):
            ends = [end for _, end in self._backend.encode(text, add_special_tokens=False).offsets]
        for keep in range(min(budget, len(ends)), -1, -1):  # a cut inside a word or character may cost a token more
            kept = _first(text, ends[keep - 1] if keep else 0)
            ids, starts, lengths = self._tokenize(form, [kept])
            if lengths[0] <= self._doc_max_length and len(ids[0]) <= self._max_length:
                break
        return ids[0][: self._max_length], starts[0], kept

    def _prompt_length(self, lead: str) -> int:
        """The tokens of a prompt by itself, but for a special one at its end; 0 without one."""
        if not lead:
            return 0
        ids = [*self._front, *self._encode([lead])[0], *self._back]
        return len(ids) - (ids[-1] in self._special)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        with foreign(UNREADABLE):  # such as for a vocabulary without its unknown token, or a pattern that takes for ever
            try:
                encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
            except (TypeError, UnicodeEncodeError):  # lone surrogates are no text: they become question marks
                clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
                encodings = self._backend.encode_batch_fast(clean, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def _first(text: str, characters: int) -> str:
    """The first characters of a text."""
    return text.first(characters) if isinstance(text, Titled) else text[:characters]


def _pieces(frame: Frame, text: str) -> list[tuple[int, int, int]]:
    """Where the pieces of a text begin and end in its prompt, and how much further on they are than in the text."""
    start = len(frame.before)
    if frame.between is None or not isinstance(text, Titled):
        return [(start, start + len(text), start)]
    title, rest = text.parts
    again = start + len(title) + len(frame.between)
    return [(start, start + len(title), start), (again, again + len(rest), again - text.text_start)]


def _within(span: tuple[int, int], pieces: list[tuple[int, int, int]]) -> tuple[int, int]:
    """A token's place in the text, given that in the prompt; (0, 0) if it has no part in it."""
    for start, end, shift in pieces:
        begin, last = max(span[0], start), min(span[1], end)
        if begin < last:
            return begin - shift, last - shift
    return 0, 0


def special_ids(backend: "Tokenizer") -> tuple[list[int], list[int]]:
    """The ids a tokenizer adds before and after every text."""
    bare = backend.encode("a", add_special_tokens=False).ids
    full = backend.encode("a", add_special_tokens=True).ids
    for front in range(len(full) - len(bare) + 1):
        if full[front : front + len(bare)] == bare:
            return full[:front], full[front + len(bare) :]
    raise WrongInput("the tokenizer changes a text's own tokens when it adds special tokens: it can't be used for prompts")
