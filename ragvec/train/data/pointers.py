"""Training rows that point into BEIR folders instead of repeating their documents: corpus, pos_id, neg_ids."""

from pathlib import Path
from typing import Any

from ragvec.corpus import read_documents
from ragvec.errors import RagvecError
from ragvec.records import Passage


class PointedTexts:
    """The documents that rows point to; each corpus is read once, when a row first names it."""

    def __init__(self, root: str | None) -> None:
        """root: the folder that corpus names count from; None = the training file's own, or the one above it."""
        self._root = root
        self._corpora: dict[Path, dict[str, str]] = {}

    def resolve(self, row: dict[str, Any], place: str, *, near: Path) -> tuple[str, tuple[str, ...]]:
        """The positive's text and the negatives' of a row. Raises RagvecError for a corpus or an id that is not there."""
        name, negatives = row.get("corpus"), row.get("neg_ids") or []
        if not isinstance(name, str) or not isinstance(negatives, list):
            raise RagvecError(
                f"{place}: pos_id needs a corpus (string) and neg_ids (a list), found {name!r:.40}, {negatives!r:.40}"
            )
        texts = self._texts(self._folder(name, place, near))
        missing = [doc_id for doc_id in (row["pos_id"], *negatives) if str(doc_id) not in texts]
        if missing:
            raise RagvecError(f"{place}: corpus {name} has no document {missing[0]!r}")
        return texts[str(row["pos_id"])], tuple(texts[str(doc_id)] for doc_id in negatives)

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
