"""Document ids: claimed once, made from the content where a source has none."""

import hashlib
from reprlib import repr as short
from typing import Any

import numpy as np

from ragvec.errors import RagvecError, WrongInput

_RECENT_IDS = 1 << 16


class SameId(WrongInput):
    """An id that another document of the corpus has: no fault of the one file that it stands in."""


class Ids:
    """The ids seen so far, as 8-byte hashes: 8 bytes a document and a small set, so 50 million documents fit in 400 MB."""

    def __init__(self, prefix: str = "", made_prefix: str = "") -> None:
        """prefix: what stands before every id; made_prefix: after it, before those that are made."""
        self._prefix, self._made_prefix = prefix, made_prefix
        self._recent: set[int] = set()
        self._older = np.empty(0, dtype=np.int64)
        self._repeats: dict[str, int] = {}

    def claim(self, given: Any, title: str, text: str, place: str) -> str:
        """The document's id as a string, made from title and text if none is given. Raises RagvecError for one seen before."""
        if given is None or given == "":
            return self._made(title, text)
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            raise RagvecError(f"{place}: the id must be a string or an integer, not {short(given):.40}")
        doc_id = f"{self._prefix}{given}"
        if not self._add(doc_id):
            raise SameId(f"{place}: the id {short(doc_id)} was used before: ids must be unique in a corpus")
        return doc_id

    def _made(self, title: str, text: str) -> str:
        content = f"{title}\0{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        doc_id = f"{self._prefix}{self._made_prefix}{digest}"
        while not self._add(doc_id):  # the same text again
            self._repeats[digest] = self._repeats.get(digest, 1) + 1
            doc_id = f"{self._prefix}{self._made_prefix}{digest}-{self._repeats[digest]}"
        return doc_id

    def _add(self, doc_id: str) -> bool:
        key = hash(doc_id)
        if key in self._recent:
            return False
        place = int(np.searchsorted(self._older, key))
        if place < len(self._older) and self._older[place] == key:
            return False
        self._recent.add(key)
        if len(self._recent) >= _RECENT_IDS:
            recent = np.fromiter(self._recent, np.int64, len(self._recent))
            self._older = np.concatenate([self._older, recent])
            self._older.sort(kind="stable")
            self._recent.clear()
        return True
