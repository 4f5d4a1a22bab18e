"""A corpus in object storage: its objects as a folder's files, in sorted order; none is opened to find them."""

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ragvec.corpus.found import CorpusFiles, beir_corpus, is_hidden
from ragvec.corpus.kinds import FileChoice, can_read, without_descriptions
from ragvec.errors import NotFound, WrongInput
from ragvec.objects import Bucket, Found, ObjectPath

_OURS = re.compile(r"(?:(.+)/)?manifests/\d{8}\.json")  # shards, which are passed over


def stored_files(path: ObjectPath, choice: FileChoice) -> CorpusFiles:
    """The readable objects below a URL, or the one that it names; by the rules of folders, see `corpus_files`.

    Raises RagvecError where they can't be listed, and for shards.
    """
    below = {name: found for found in Bucket(path).listed() if (name := found.name[len(path.key) :].lstrip("/"))}
    folders = {folder for name in below for folder in _folders_above(name)}
    below = {name: found for name, found in below.items() if found.size or name not in folders}  # which mark folders, empty
    if below:
        return _chosen(path, below, choice)
    found = Bucket(path.parent).find(path.name) if path.key else None
    if found is None:
        raise NotFound(f"{path} does not exist: name an object, or what stands before several")
    if choice.format_of(path) is None:
        return CorpusFiles([], path.parent)
    return CorpusFiles([path.parent.below(path.name, found)], path.parent)


def _chosen(root: ObjectPath, below: dict[str, Found], choice: FileChoice) -> CorpusFiles:
    ours = {match[1] or "" for name in below if (match := _OURS.fullmatch(name))}
    if "" in ours:
        raise WrongInput(f"{root} was written by ragvec and is not a corpus: name the folder or file with the documents")
    folders: dict[str, list[Path]] = defaultdict(list)
    for name, found in below.items():
        if _is_shown(name, ours, choice):
            folders[name.rpartition("/")[0]].append(root.below(name, found))
    beirs = {folder: beir for folder, files in folders.items() if (beir := beir_corpus(files))}
    paths: list[Path] = []
    skipped: list[Path] = [root / folder for folder in ours]
    for folder, files in folders.items():
        if any(above in beirs for above in _folders_above(folder)):
            continue
        for path in [beirs[folder]] if folder in beirs else without_descriptions(files):
            (paths if can_read(path, choice.format_of(path)) else skipped).append(path)
    return CorpusFiles(sorted(paths), root, within=root, skipped=sorted(skipped))


def _is_shown(name: str, ours: set[str], choice: FileChoice) -> bool:
    """Whether an object is one of the corpus' files, whatever its kind."""
    above = [folder for folder in _folders_above(name) if folder]
    hidden = name.endswith("/") or any(map(is_hidden, name.split("/")))
    return not hidden and not ours.intersection(above) and all(map(choice.enters, above)) and choice.takes(name)


def _folders_above(name: str) -> list[str]:
    """The folders that a name lies in, the outermost, "", included."""
    return [str(folder).removeprefix(".") for folder in PurePosixPath(name).parents]
