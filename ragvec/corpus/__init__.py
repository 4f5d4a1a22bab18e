"""Corpora: documents out of files of any common format, streamed, with errors that name file and line."""

from ragvec.corpus.documents import TEXT_FIELDS, count_documents, read_documents, to_passages

__all__ = ["TEXT_FIELDS", "count_documents", "read_documents", "to_passages"]
