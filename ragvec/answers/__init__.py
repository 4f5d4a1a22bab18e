"""Answers with sources: passages found, a prompt made of them, a language model asked, and what it cites named.

The model is any endpoint that speaks OpenAI's chat API: llama.cpp, Ollama, vLLM. Names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragvec.answers.answerer import Answerer, ask
    from ragvec.answers.endpoint import Endpoint, EndpointFailed
    from ragvec.answers.reply import CONTEXT_TOKENS, Answer, Grounds, Reply, find_grounds
    from ragvec.answers.sources import Source

_LAZY = {
    "Answerer": "answerer",
    "ask": "answerer",
    "Endpoint": "endpoint",
    "EndpointFailed": "endpoint",
    "CONTEXT_TOKENS": "reply",
    "Answer": "reply",
    "Grounds": "reply",
    "Reply": "reply",
    "find_grounds": "reply",
    "Source": "sources",
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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"ragvec.answers.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ragvec.answers' has no attribute {name!r}")
