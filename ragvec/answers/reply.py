"""From hits to an answer: what is good enough to answer from, the model's words as they come, and what they cite."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ragvec.answers.endpoint import Endpoint
from ragvec.answers.sources import Source, cited_numbers, source_of
from ragvec.answers.stream import Stream
from ragvec.corpus.chunk import CountTokens
from ragvec.records import Hit
from ragvec.retrieve.context import build_context
from ragvec.retrieve.templates import Template, is_korean

CONTEXT_TOKENS = 2000  # of a prompt: with the answer it fits a window of 4,096, which llama.cpp and Ollama mostly give
NOT_THERE = "The documents do not answer this."
NOT_THERE_KOREAN = "문서에 답이 없습니다."


class Grounds(NamedTuple):
    """What a question is answered from: a prompt and its sources; without any the documents hold no answer."""

    question: str
    prompt: str
    sources: tuple[Source, ...]


def find_grounds(
    question: str,
    hits: Sequence[Hit],
    count_tokens: CountTokens,
    *,
    template: Template | None = None,
    max_tokens: int = CONTEXT_TOKENS,
) -> Grounds:
    """The prompt with all hits that are no weak matches, as `build_context` makes it.

    hits  best first. Where all are weak, or there is none, nobody is to be asked: a model would make something up.
    Raises RagvecError if not even the beginning of one passage fits.
    """
    context = build_context(question, [hit for hit in hits if not hit.weak], max_tokens, count_tokens, template=template)
    return Grounds(question, context.text, tuple(source_of(number, hit) for number, hit in enumerate(context.sources, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered. As a string: the text, and below it the sources that it cites.

    found    whether anything in the documents is near enough to answer from; else the model was not asked, and text says so
    sources  that the model was given; cited: those of them that the text cites
    cut      whether the text ends for want of tokens
    """

    question: str
    text: str
    found: bool
    sources: tuple[Source, ...]
    cited: tuple[Source, ...]
    cut: bool = False

    def record(self) -> dict[str, Any]:
        """As JSON values; `cited` are numbers of sources."""
        return {
            "question": self.question,
            "answer": self.text,
            "found": self.found,
            "cut": self.cut,
            "cited": [source.number for source in self.cited],
            "sources": [source.record() for source in self.sources],
        }

    def __str__(self) -> str:
        return "\n\n".join(filter(None, (self.text, "\n".join(map(str, self.cited)))))


class Reply:
    """An answer as it comes: iterate for its pieces, once; `answer` is all of it. Close it, or use it in a `with` block.

    sources  that the model is given, known before the first piece; none = the documents hold no answer, and nobody is asked
    """

    def __init__(self, grounds: Grounds, endpoint: Endpoint) -> None:
        """Nothing is asked before the first piece is."""
        self.question = grounds.question
        self.sources = grounds.sources
        self._stream = Stream(endpoint, grounds.prompt) if grounds.sources else None
        self._pieces: list[str] = []
        self._running: Iterator[str] = iter(self._stream or [not_there(grounds.question)])

    def __iter__(self) -> Iterator[str]:
        """Pieces of the text. Raises EndpointFailed; what came before stays in `answer`."""
        for piece in self._running:
            self._pieces.append(piece)
            yield piece

    @property
    def found(self) -> bool:
        """Whether there is anything to answer from."""
        return bool(self.sources)

    def answer(self) -> Answer:
        """The whole answer, once all of it has come. Raises EndpointFailed."""
        for _ in self:
            pass
        text = "".join(self._pieces).rstrip()
        cited = tuple(self.sources[number - 1] for number in cited_numbers(text, len(self.sources)))
        cut = self._stream is not None and self._stream.cut
        return Answer(question=self.question, text=text, found=self.found, sources=self.sources, cited=cited, cut=cut)

    def close(self) -> None:
        """End it, from any thread: the endpoint is hung up on, and no further piece comes."""
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> "Reply":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def not_there(question: str) -> str:
    """That the documents hold no answer, in the question's language."""
    return NOT_THERE_KOREAN if is_korean(question) else NOT_THERE
