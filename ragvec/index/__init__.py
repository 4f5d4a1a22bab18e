"""The index: passages, their vectors, and the words of lexical search, in one folder."""

from ragvec.index.ann.exact import SearchResult
from ragvec.index.changes import ChangeReport
from ragvec.index.index import Index
from ragvec.index.store import IndexSettings
from ragvec.index.view import View

__all__ = ["ChangeReport", "Index", "IndexSettings", "SearchResult", "View"]
