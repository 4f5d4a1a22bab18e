"""ragvec in Chroma: an embedding function; needs ragvec's extra `chroma`.

import chromadb
from ragvec.integrations.chroma import RagvecEmbeddingFunction

collection = chromadb.PersistentClient("db").create_collection("papers", embedding_function=RagvecEmbeddingFunction())
"""

from typing import Any

from chromadb.api.types import Documents, EmbeddingFunction, Embeddings
from chromadb.utils.embedding_functions import register_embedding_function

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError


@register_embedding_function
class RagvecEmbeddingFunction(EmbeddingFunction[Documents]):
    """An Encoder for Chroma; queries carry the instruction, documents never do.

    A collection remembers the encoder's fingerprint, and refuses to be opened with another.
    """

    def __init__(
        self, source: str | None = None, instruction: str | None = None, options: dict[str, Any] | None = None
    ) -> None:
        """source and options are those of `Encoder.load`; instruction None = the encoder's own, "" = none."""
        self.source = source
        self.instruction = instruction
        self.options = options or {}
        self.encoder = Encoder.load(source, **self.options)

    def __call__(self, input: Documents) -> Embeddings:
        """Documents' vectors, of length 1."""
        return list(self.encoder.encode_documents(list(input)))

    def embed_query(self, input: Documents) -> Embeddings:
        """Queries' vectors, of length 1."""
        return list(self.encoder.encode_queries(list(input), instruction=self.instruction))

    @staticmethod
    def name() -> str:
        """What a collection's configuration calls it."""
        return "ragvec"

    def default_space(self) -> str:
        """Vectors of length 1 are compared by cosine."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """What is needed to make it again."""
        return {
            "source": self.source,
            "instruction": self.instruction,
            "options": self.options,
            "fingerprint": self.encoder.fingerprint,
        }

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "RagvecEmbeddingFunction":
        """Make it again. Raises RagvecError if what lies at the source is another encoder now."""
        made = RagvecEmbeddingFunction(config["source"], config["instruction"], config["options"])
        made.validate_config_update(config, made.get_config())
        return made

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Raises RagvecError for another encoder: its vectors mean something else."""
        old, new = (config["fingerprint"] for config in (old_config, new_config))
        if old != new:
            raise RagvecError(f"the collection's vectors are of encoder {old[:12]}, this is {new[:12]}: make a new collection")
