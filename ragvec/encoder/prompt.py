"""From instruction and text to token ids, and to the positions that are pooled.

Instruction and text stay separate pieces: no separator is written into the string, so none is searched for in what users wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragvec.encoder.door import foreign
from ragvec.errors import WrongInput, WrongUsage

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
    """Builds the reference's token ids: template prefix, instruction, separator, text, template suffix."""

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
        self._suffix_length = len(self._encode([suffix])[0]) if suffix else 0

    def build(self, texts: Sequence[str], instruction: str = "") -> Prompts:
        """Tokenize texts, each after the same instruction ("" = none).

        A text over doc_max_length tokens, or one whose prompt would pass max_length, is shortened by tokens; template and
        instruction stay whole. Raises RagvecError if they alone fill max_length, TypeError for a lone string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of strings: pass [text] instead of text")
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"texts must be strings, not {type(text).__name__}")
        if not len(texts):
            return Prompts([], [], [], [])
        lead = self.lead(instruction)
        longest = _MOST_CHARACTERS_PER_TOKEN * self._doc_max_length
        kept = [text[:longest] for text in texts]
        truncated = [len(text) > longest for text in texts]
        ids, pool_starts, text_lengths = self._tokenize(lead, kept)
        for row, text in enumerate(kept):
            if text_lengths[row] > self._doc_max_length or len(ids[row]) > self._max_length:
                ids[row], pool_starts[row], kept[row] = self._shorten(lead, text, text_lengths[row], len(ids[row]))
                truncated[row] = True
        if not self._skip_instruction:
            pool_starts = [0] * len(kept)
        elif self._border == "prompt":
            pool_starts = [self._prompt_length(lead)] * len(kept)
        return Prompts([row or [self._lone] for row in ids], pool_starts, truncated, kept)

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, by itself: without template, special tokens or a limit."""
        return [len(ids) for ids in self._encode(list(texts))]

    def room(self, instruction: str = "") -> int:
        """The most tokens of a text that are read after this instruction; may be 0 or less."""
        [whole], _, [length] = self._tokenize(self.lead(instruction), ["a"])
        return min(self._doc_max_length, self._max_length - (len(whole) - length))

    def lead(self, instruction: str) -> str:
        """What comes before the text: template prefix and instruction."""
        if self._separator:
            instruction = instruction.strip()
        return self._prefix + (instruction + self._separator if instruction else "")

    def offsets(self, lead: str, text: str) -> list[tuple[int, int]]:
        """Where each token of a prompt lies in the text, as character offsets; (0, 0) for all that is not text."""
        inside = self._backend.encode(lead + self._body(text), add_special_tokens=False).offsets
        first, length = len(lead), len(text)
        clip = [(min(max(begin - first, 0), length), min(max(end - first, 0), length)) for begin, end in inside]
        return [*[(0, 0)] * len(self._front), *clip, *[(0, 0)] * len(self._back)]

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

    def _body(self, text: str) -> str:
        return text.rstrip() + self._suffix if self._suffix else text

    def _tokenize(self, lead: str, texts: list[str]) -> tuple[list[list[int]], list[int], list[int]]:
        """ids of whole prompts, where their texts start, and the texts' own lengths, in one tokenizer call.

        As in the reference, a text's length is that of its own tokenization, counted back from the end.
        """
        bodies = [self._body(text) for text in texts]
        if lead:
            encoded = self._encode([lead + body for body in bodies] + bodies)
            wholes, alone = encoded[: len(bodies)], encoded[len(bodies) :]
        else:
            wholes = alone = self._encode(bodies)
        fixed = len(self._front)
        starts = [fixed + max(len(whole) - len(body), 0) for whole, body in zip(wholes, alone, strict=True)]
        lengths = [len(body) - self._suffix_length for body in alone]
        return [[*self._front, *whole, *self._back] for whole in wholes], starts, lengths

    def _shorten(self, lead: str, text: str, text_length: int, total: int) -> tuple[list[int], int, str]:
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
            kept = text[: ends[keep - 1]] if keep else ""
            ids, starts, lengths = self._tokenize(lead, [kept])
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


def special_ids(backend: "Tokenizer") -> tuple[list[int], list[int]]:
    """The ids a tokenizer adds before and after every text."""
    bare = backend.encode("a", add_special_tokens=False).ids
    full = backend.encode("a", add_special_tokens=True).ids
    for front in range(len(full) - len(bare) + 1):
        if full[front : front + len(bare)] == bare:
            return full[:front], full[front + len(bare) :]
    raise WrongInput("the tokenizer changes a text's own tokens when it adds special tokens: it can't be used for prompts")
