"""Answers with sources: passages found, a prompt made of them, a language model asked, and what it cites named.

The model is any endpoint that speaks OpenAI's chat API: llama.cpp, Ollama, vLLM. Names load on first use.
"""

from typing import TYPE_CHECKING

from ragvec.lazy import lazy_names

if TYPE_CHECKING:
    from ragvec.answers.answerer import Answerer, ask
    from ragvec.answers.endpoint import Endpoint, EndpointFailed
    from ragvec.answers.reply import CONTEXT_TOKENS, Answer, Grounds, Reply, find_grounds
    from ragvec.answers.sources import Source

_LAZY = {
    "Answerer": "ragvec.answers.answerer",
    "ask": "ragvec.answers.answerer",
    "Endpoint": "ragvec.answers.endpoint",
    "EndpointFailed": "ragvec.answers.endpoint",
    "CONTEXT_TOKENS": "ragvec.answers.reply",
    "Answer": "ragvec.answers.reply",
    "Grounds": "ragvec.answers.reply",
    "Reply": "ragvec.answers.reply",
    "find_grounds": "ragvec.answers.reply",
    "Source": "ragvec.answers.sources",
}
__all__ = [
    "Answer",
    "Answerer",
    "CONTEXT_TOKENS",
    "Endpoint",
    "EndpointFailed",
    "Grounds",
    "Reply",
    "Source",
    "ask",
    "find_grounds",
]
__getattr__ = lazy_names(__name__, _LAZY)
