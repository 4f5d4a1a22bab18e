"""Corpora: documents out of files of any common format, streamed, with errors that name file and line."""

from ragvec.corpus.documents import Rejected, count_documents, read_documents, to_passages
from ragvec.corpus.fields import TEXT_FIELDS

__all__ = ["TEXT_FIELDS", "Rejected", "count_documents", "read_documents", "to_passages"]
