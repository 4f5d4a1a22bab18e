"""Watching corpora for changes of their files, through watchfiles (the extra `watch`)."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from ragvec.artefacts import is_shards
from ragvec.corpus.files import STDIN, corpus_files
from ragvec.corpus.found import is_hidden
from ragvec.corpus.kinds import FileChoice
from ragvec.corpus.spelling import composed
from ragvec.errors import NoDocuments, RagvecError, WrongUsage
from ragvec.objects import is_url

_QUIET_MS, _LATEST_MS = 500, 5000  # how long nothing must happen before changes are told, and after how long they are at last
_LOOK_MS = 1000


def watched(
    corpora: Sequence[str | Path], choice: FileChoice, ignored: Sequence[Path], *, stop: Event | None = None
) -> Iterator[bool]:
    """True at once, when watching has begun, and after each change of files that are read; False now and then meanwhile.

    ignored  files and folders whose changes are none: what is made of the corpora may lie in them
    stop     ends it once it is set
    Raises WrongInput for standard input, shards and a corpus that is not there; RagvecError where watchfiles is missing.
    """
    if any(str(corpus) == STDIN for corpus in corpora):
        raise WrongUsage("standard input can't be watched: name files or folders")
    if any(map(is_url, corpora)):
        raise WrongUsage("object storage can't be watched: name files or folders here, or index it again when it has changed")
    if any(map(is_shards, corpora)):
        raise WrongUsage("encoded shards are not watched: name the corpus that they were made of")
    try:
        from watchfiles import watch
    except ImportError as error:
        raise RagvecError(f"watching needs watchfiles ({error}): pip install 'ragvec[watch]'") from error
    for corpus in corpora:
        with suppress(NoDocuments):  # an empty folder may be filled
            corpus_files(corpus, choice)
    wanted = _Wanted([Path(corpus).resolve() for corpus in corpora], choice, [path.resolve() for path in ignored])
    timing: dict[str, Any] = {"debounce": _LATEST_MS, "step": _QUIET_MS, "rust_timeout": _LOOK_MS}
    # a file is watched by its folder: many a program writes another one and gives it the name
    folders = {path if path.is_dir() else path.parent for path in wanted.corpora}
    stream = watch(*folders, watch_filter=wanted, stop_event=stop, yield_on_timeout=True, **timing)
    next(stream, None)  # from here on nothing is missed
    yield True
    for changes in stream:
        yield bool(changes)


class _Wanted:
    """Whether a changed path is one that the corpora are read from, or a folder, which may have brought some."""

    def __init__(self, corpora: Sequence[Path], choice: FileChoice, ignored: Sequence[Path]) -> None:
        self.corpora, self._choice = corpora, choice
        self._composed = [Path(composed(str(corpus))) for corpus in corpora]
        self._ignored = [Path(composed(str(one))) for one in ignored]

    def __call__(self, change: Any, changed: str) -> bool:
        path = Path(composed(changed))
        if is_hidden(path.name) or any(path.is_relative_to(one) for one in self._ignored):
            return False
        for corpus, above in zip(self.corpora, self._composed, strict=True):
            if path == above:
                return True
            if corpus.is_dir() and path.is_relative_to(above):
                name = path.relative_to(above)
                hidden = any(part.startswith(".") for part in name.parts)
                kind = self._choice.format_of(path) is not None or path.suffix == "" or Path(changed).is_dir()
                if kind and not hidden and self._choice.takes(name.as_posix()):
                    return True
        return False
