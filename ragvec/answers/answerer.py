"""Questions to the documents of an index, in Python."""

from pathlib import Path
from typing import TYPE_CHECKING

from ragvec.answers.endpoint import TIMEOUT_S, Endpoint
from ragvec.answers.reply import CONTEXT_TOKENS, Answer, Reply, find_grounds
from ragvec.arguments import text, whole, wrong_type
from ragvec.errors import WrongUsage
from ragvec.retrieve import DEFAULTS, Options, Request, Retriever, open_retriever
from ragvec.retrieve.context import token_counter
from ragvec.retrieve.templates import Template

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Answerer:
    """Answers questions from an index by a language model, with the sources. May be used from several threads."""

    def __init__(
        self,
        retriever: Retriever,
        endpoint: Endpoint,
        *,
        prompt_template: str | None = None,
        context_tokens: int = CONTEXT_TOKENS,
    ) -> None:
        """retriever        finds the passages
        endpoint         is asked
        prompt_template  a prompt with {passages} and {question} in it; None = ragvec's own, in the question's language
        context_tokens   most tokens of a prompt, counted by the index's tokenizer
        Raises WrongInput for a template that lacks one of them.
        """
        if not isinstance(retriever, Retriever):
            remedy = "open one, ragvec.retrieve.open_retriever(path), or call Answerer.open(path, base_url)"
            raise wrong_type("retriever", retriever, remedy)
        if not isinstance(endpoint, Endpoint):
            raise wrong_type("endpoint", endpoint, "give an Endpoint(base_url), or call Answerer.open(path, base_url)")
        if whole("context_tokens", context_tokens) < 1:
            raise WrongUsage(f"context_tokens is {context_tokens}: allow some hundreds")
        self.retriever = retriever
        self.endpoint = endpoint
        self._template = None if prompt_template is None else Template(text("prompt_template", prompt_template))
        self._tokens = context_tokens
        self._count = token_counter(retriever.index.settings, retriever.encoder)

    @classmethod
    def open(
        cls,
        index: str | Path,
        base_url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float = TIMEOUT_S,
        prompt_template: str | None = None,
        context_tokens: int = CONTEXT_TOKENS,
    ) -> "Answerer":
        """An Answerer over an index folder, with the encoder the index was built with.

        base_url, api_key, model, timeout  of the endpoint, as for `Endpoint`: http://localhost:11434/v1 for Ollama
        Raises RagvecError for what `open_retriever` and `Endpoint` do.
        """
        endpoint = Endpoint(base_url, api_key=api_key, model=model, timeout=timeout)
        return cls(open_retriever(index), endpoint, prompt_template=prompt_template, context_tokens=context_tokens)

    def ask(self, question: str, k: int = DEFAULTS["k"], **options: "Unpack[Options]") -> Answer:
        """The answer to a question, and the sources it cites; print it, or take its parts.

        k        passages that are looked for; weak matches among them are left out, and without others nobody is asked
        options  further fields of `Request`: where, mode, min_score …
        Raises RagvecError for what retrieval can't do, EndpointFailed for an endpoint that does not answer.
        """
        return self.stream(question, k, **options).answer()

    def stream(self, question: str, k: int = DEFAULTS["k"], **options: "Unpack[Options]") -> Reply:
        """The same as it comes: the sources first, the text piece by piece. Raises as `ask`, of the endpoint later on."""
        text("question", question, "give one string")
        request = Request(query=question, k=k, **options)
        hits = self.retriever.answer(request)
        grounds = find_grounds(request.meaning, hits, self._count, template=self._template, max_tokens=self._tokens)
        return Reply(grounds, self.endpoint)


def ask(
    question: str,
    index: str | Path,
    base_url: str,
    *,
    api_key: str | None = None,
    model: str | None = None,
    k: int = DEFAULTS["k"],
    **options: "Unpack[Options]",
) -> Answer:
    """The answer to one question from an index folder, by the language model of an endpoint that speaks OpenAI's API.

    base_url  such as http://localhost:11434/v1 (Ollama); model None = the first that it lists
    Loads the index and its encoder each time: for many questions open an `Answerer`. Raises as `Answerer.open` and `.ask`.
    """
    return Answerer.open(index, base_url, api_key=api_key, model=model).ask(question, k, **options)
