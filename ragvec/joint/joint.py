"""Indices that are read together, and what of them must agree."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ragvec.errors import Damaged, WrongInput, WrongType
from ragvec.index import Index, IndexSettings, View
from ragvec.index.words import Words
from ragvec.joint.view import Commit, JointView
from ragvec.records import FilterValues

_TRIES = 5
_AGREE = ("fingerprint", "dimension", "normalized", "query_instruction", "document_instruction")
_SUMS = ("documents", "passages", "deleted_rows", "bytes")


class Joint:
    """Several indices of one encoder, open for reading by any number of threads; a Retriever takes it as it takes an Index.

    Vectors are merged by their similarity. Words are weighed by what is known of all indices together, how frequent they are
    and how long passages are: so every score is the one that a single index over all of the documents would give.
    A document whose id is in several of the indices is found in each of them: hits say which index they are from.
    """

    has_words = True

    def __init__(self, indices: Sequence[Index]) -> None:
        """indices: in the order in which equal scores are told. Raises WrongInput where they can't be searched as one."""
        self.indices = list(indices)
        self.names = distinct_names([index.path for index in self.indices])
        check_agreement([index.settings for index in self.indices], self.names)
        self._last: Commit | None = None
        self._opening = threading.Lock()

    @classmethod
    def open(cls, paths: Sequence[str | Path]) -> "Joint":
        """Open the indices in these folders.

        Raises RagvecError if one is not there, is named twice, or was built with another encoder, instruction or language.
        """
        if isinstance(paths, (str, Path)):
            raise WrongType("`paths` must be a sequence of folders: pass [folder] instead of folder")
        check_paths(paths)
        with ExitStack() as stack:
            joint = cls([stack.enter_context(Index.open(path)) for path in paths])
            stack.pop_all()
        return joint

    @property
    def settings(self) -> IndexSettings:
        """Those that the indices agree on; the others are the first's."""
        return self.indices[0].settings

    @contextmanager
    def reading(self) -> Iterator[JointView]:
        """The last commit of each index, held still."""
        for _ in range(_TRIES):
            with ExitStack() as stack:
                views = [stack.enter_context(index.reading()) for index in self.indices]
                try:
                    commit = self._commit(views)
                except FileNotFoundError as error:  # words were merged away since: a newer commit is there to read
                    missing = error.filename
                    continue
                yield JointView(views, commit)
                return
        raise Damaged(f"{missing} is missing: restore the index it belongs to, or remove that and build it again")

    def _commit(self, views: Sequence[View]) -> Commit:
        generations = tuple(view.generation for view in views)
        with self._opening:
            if self._last is None or self._last.generations != generations:
                self._last = Commit(generations, self._words([view.words for view in views]), self.names)
            return self._last

    def _words(self, words: Sequence[Words]) -> Words:
        """Words of all indices. Raises WrongInput where they are stemmed by several languages: no word would mean the same."""
        places = [place for place, one in enumerate(words) if one.record.segments] or [0]
        language = words[places[0]].language
        for place in places:
            if (other := words[place].language) != language:
                raise WrongInput(
                    f"words are stemmed as {language} in {self.names[places[0]]}, as {other} in {self.names[place]}: bring one "
                    "to the other's language by `ragvec compact --language …`, which encodes nothing anew"
                )
        first, *others = words
        return Words(first.folder, first.record, language, first, beside=others)

    def check_where(self, where: str, values: FilterValues | None = None) -> None:
        """Raises WrongInput, with the column, for a filter that is none, and for a field that is in no index."""
        with self.reading() as view:
            view.check_where(where, values)

    def describe(self) -> dict[str, Any]:
        """What these indices are together, and each of them under `indices`; JSON values only."""
        each = [index.describe() for index in self.indices]
        together = {**each[0], **{name: sum(one[name] for one in each) for name in _SUMS}}
        together["segments"] = [segment for one in each for segment in one["segments"]]
        together["path"] = ", ".join(str(index.path) for index in self.indices)
        counts = ("documents", "passages")
        rows = zip(self.names, each, strict=True)
        return {**together, "indices": [{"name": name, **{count: one[count] for count in counts}} for name, one in rows]}

    def close(self) -> None:
        """Close the indices."""
        for index in self.indices:
            index.close()

    def __repr__(self) -> str:
        return f"<Joint of {', '.join(map(repr, self.indices))}>"

    def __reduce__(self) -> "tuple[type[Joint], tuple[list[Index]]]":
        """Pickled as its indices are."""
        return Joint, (self.indices,)

    def __len__(self) -> int:
        """The number of passages in all of them."""
        return sum(map(len, self.indices))

    def __enter__(self) -> "Joint":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_paths(paths: Sequence[str | Path]) -> None:
    """Raises WrongInput for no folders, and for one that is named twice."""
    if not paths:
        raise WrongInput("no index is named: name one or more")
    resolved = [Path(path).resolve() for path in paths]
    twice = next((path for path, real in zip(paths, resolved, strict=True) if resolved.count(real) > 1), None)
    if twice is not None:
        raise WrongInput(f"the index {twice} is named twice: name each once")


def check_agreement(settings: Sequence[IndexSettings], names: Sequence[str]) -> None:
    """Raises WrongInput, naming two of them, unless vectors of these indices may be compared by one query's."""
    told = next((one.query_instruction for one in settings if one.query_instruction), "")  # shards don't tell theirs
    settings = [replace(one, query_instruction=one.query_instruction or told) for one in settings]
    for name in _AGREE:
        first, *others = (getattr(one, name) for one in settings)
        place = next((place for place, other in enumerate(others, 1) if other != first), None)
        if place is not None:
            shown = [value[:12] if name == "fingerprint" else repr(value) for value in (first, others[place - 1])]
            what = (
                f"encoder {settings[0].encoder_source} and {settings[place].encoder_source}" if name == "fingerprint" else name
            )
            raise WrongInput(
                f"{names[0]} and {names[place]} can't be searched together, their {what.replace('_', ' ')} differ "
                f"({shown[0]}, {shown[1]}): build one again as the other was, or search them one by one"
            )


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names, with as much of what they lie in as tells them apart."""
    parts = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
