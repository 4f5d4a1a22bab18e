"""Training rows that point into a corpus instead of repeating its documents.

BEIR folders (corpus, pos_id, neg_ids), and Tevatron's rows of today (positive_document_ids, negative_document_ids).
"""

from pathlib import Path
from typing import Any

from ragvec.corpus import read_documents
from ragvec.errors import RagvecError
from ragvec.records import Passage

POSITIVE_IDS, NEGATIVE_IDS = "positive_document_ids", "negative_document_ids"


class PointedTexts:
    """The documents that rows point to; each corpus is read once, when a row first names it."""

    def __init__(self, root: str | None) -> None:
        """root: the folder that corpus names count from; None = the training file's own, or the one above it."""
        self._root = root
        self._corpora: dict[Path, dict[str, str]] = {}

    def resolve(self, row: dict[str, Any], place: str, *, near: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The positives' texts and the negatives' of a row. Raises RagvecError for a corpus or an id that is not there.

        A row that names no corpus points into corpus_root itself.
        """
        given, name = "pos_id" if "pos_id" in row else POSITIVE_IDS, row.get("corpus")
        positives = [row["pos_id"]] if "pos_id" in row else row[POSITIVE_IDS]
        negatives = row.get("neg_ids" if "pos_id" in row else NEGATIVE_IDS) or []
        if not isinstance(name, str | None) or not isinstance(positives, list) or not isinstance(negatives, list):
            raise RagvecError(
                f"{place}: {given} needs a corpus (string) and lists of ids, found {name!r:.40}, {positives!r:.40}, "
                f"{negatives!r:.40}"
            )
        texts = self._texts(self._folder(name, place, near) if name is not None else self._whole(place, given))
        missing = [doc_id for doc_id in (*positives, *negatives) if str(doc_id) not in texts]
        if missing:
            raise RagvecError(f"{place}: corpus {name or self._root} has no document {missing[0]!r}")
        return tuple(texts[str(one)] for one in positives), tuple(texts[str(one)] for one in negatives)

    def _whole(self, place: str, given: str) -> Path:
        if self._root is None:
            raise RagvecError(f'{place}: {given} points into a corpus and the row names none: set "corpus_root" in the config')
        return Path(self._root).expanduser()

    def _folder(self, name: str, place: str, near: Path) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:  # the row is whoever's
            raise RagvecError(
                f'{place}: the corpus {name!r:.80} lies elsewhere: name a folder below "corpus_root" in the config'
            )
        roots = [Path(self._root).expanduser()] if self._root else [near, near.parent]
        for root in roots:
            if (root / name).exists():
                return root / name
        tried = ", ".join(str(root / name) for root in roots)
        raise RagvecError(f'{place}: no corpus folder {name} (tried {tried}): set "corpus_root" in the config')

    def _texts(self, folder: Path) -> dict[str, str]:
        if folder not in self._corpora:
            passages = (Passage(one.doc_id, one.doc_id, one.text, one.title) for one in read_documents(folder))
            self._corpora[folder] = {passage.doc_id: passage.encoded_text for passage in passages}
        return self._corpora[folder]
