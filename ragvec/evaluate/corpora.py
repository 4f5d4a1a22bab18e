"""A data set's corpus as an index: encoded once, kept as shards under the corpus' hash and the encoder's fingerprint.

CACHE/corpora/NAME-<corpus hash>/<fingerprint>-<dtype>/shards, …/index     and …/lexical for search by words alone
A corpus that is cut into passages lies beside, in folders whose names end in -<passage tokens>+<overlap>.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ragvec.artefacts import DATABASE_NAME
from ragvec.corpus import read_documents
from ragvec.corpus.files import corpus_files
from ragvec.corpus.passages import CorpusOptions, count_passages, passages_of
from ragvec.errors import RagvecError
from ragvec.files import sha256_file
from ragvec.index import Index, IndexSettings
from ragvec.index.changes import Changes
from ragvec.index.layout import remove_index
from ragvec.ingest.build import build
from ragvec.ingest.folder import remove_shards
from ragvec.progress import progress_bar
from ragvec.records import Passage
from ragvec.shards import MANIFEST, Manifest, load_manifest

if TYPE_CHECKING:
    from ragvec.encoder import Encoder

_HEX = 16
_BLOCK = 4096


@contextmanager
def corpus_folder(corpus: Path, cache: Path | None) -> Iterator[Path]:
    """Where this very corpus is kept encoded: below `cache`, or in a folder that is gone afterwards."""
    if cache is None:
        with TemporaryDirectory(prefix="ragvec-eval-") as folder:
            yield Path(folder)
        return
    digest = hashlib.sha256()
    for path in corpus_files(corpus).paths:
        digest.update(f"{path.name}\0{sha256_file(path)}\0".encode())
    name = corpus.resolve().name if corpus.is_dir() else corpus.resolve().parent.name
    yield cache / "corpora" / f"{name}-{digest.hexdigest()[:_HEX]}"


def dense_index(corpus: Path, encoder: "Encoder", folder: Path, *, cut: CorpusOptions, show: bool) -> tuple[Path, Manifest]:
    """An index of the corpus, cut as these options say, with this encoder's vectors, and the manifest of its shards.

    Both are made where they are missing, unfinished, damaged or of another ragvec's format, and taken as they are otherwise.
    """
    from ragvec.ingest import encode_corpus

    instruction = encoder.settings.document_instruction  # which is not in the fingerprint
    told = f"-{hashlib.sha256(instruction.encode()).hexdigest()[:_HEX]}" if instruction else ""
    home = folder / f"{encoder.fingerprint[:_HEX]}-{encoder.dtype}{told}{_how_cut(cut)}"
    shards, index = home / "shards", home / "index"
    manifest = _manifest_of(shards)
    if manifest is None or not manifest.complete:
        total = count_passages(corpus, cut) if show else None
        encode_corpus(passages_of(read_documents(corpus), cut, encoder), encoder, shards, total=total, show_progress=show)
        manifest = load_manifest(shards)
    if _passages_in(index) != manifest.rows:
        build(shards, index, name="corpus", show_progress=show)  # wherever the cache lies
    return index, manifest


def lexical_index(corpus: Path, encoder: "Encoder | None", folder: Path, *, cut: CorpusOptions, show: bool) -> Path:
    """An index of the corpus for search by words; its vectors say nothing. An encoder is needed where passages are cut."""
    name = "lexical"
    if cut.passage_tokens is not None:
        assert encoder is not None
        name += f"-{encoder.fingerprint[:_HEX]}{_how_cut(cut)}"
    index, done = folder / name, folder / f"{name}.done"
    if not _passages_in(index) or not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        total = count_passages(corpus, cut) if show else None
        index_words(index, passages_of(read_documents(corpus), cut, encoder), total=total, show=show).close()
        done.touch()
    return index


def index_words(folder: Path, passages: Iterable[Passage], *, total: int | None, show: bool) -> Index:
    """Bring the passages into an index without vectors, new or begun, and return it open."""
    is_new = not (folder / DATABASE_NAME).exists()
    index = Index.create_with(folder, IndexSettings("none", "none", 1)) if is_new else Index.open(folder)
    with index.writing() as writer:
        changes = Changes(writer.connection)
        writer.commit(_blocks(changes.fresh(passages), total, show), changes)
    return index


def _blocks(passages: Iterable[Passage], total: int | None, show: bool) -> Iterator[tuple[list[Passage], np.ndarray]]:
    with progress_bar("words", total=total, unit="passages", show=show) as bar:
        block = []
        for passage in passages:
            block.append(passage)
            if len(block) == _BLOCK:
                yield block, np.zeros((len(block), 1), np.float32)
                bar.update(len(block))
                block = []
        if block:
            yield block, np.zeros((len(block), 1), np.float32)


def _how_cut(cut: CorpusOptions) -> str:
    return "" if cut.passage_tokens is None else f"-{cut.passage_tokens}+{cut.overlap}"


def _manifest_of(shards: Path) -> Manifest | None:
    if not (shards / MANIFEST).is_file():
        return None
    try:
        return load_manifest(shards)
    except RagvecError:  # a cache is made again, whatever befell it
        remove_shards(shards)
        return None


def _passages_in(path: Path) -> int:
    if not (path / DATABASE_NAME).is_file():
        return 0
    try:
        with Index.open(path) as index:
            return len(index)
    except RagvecError:
        remove_index(path)
        return 0
