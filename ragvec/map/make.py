"""Making a map: vectors to points, points to topics, and the file."""

from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import numpy as np

from ragvec.errors import WrongInput
from ragvec.index import Index, View, store
from ragvec.index.words import DEFAULT_LANGUAGE
from ragvec.map.file import MOST_POINTS, CorpusMap
from ragvec.map.layout import check_installed, lay_out
from ragvec.map.topics import topics_of

FEWEST = 10  # passages: fewer are read as a list
_BLOCK = 8192  # vectors that are read at once
_MIXED = np.uint64(0x9E3779B97F4A7C15)


def make_map(index: Index, *, on_step: Callable[[str], None] | None = None) -> CorpusMap:
    """Lay an index's passages out on a plane, name its topics, and keep the map beside the index.

    The same index gives the same map. Of more than 100,000 passages that many are shown, drawn by their ids, so that most of
    them are shown again when others have come.
    on_step  told what is being done
    Raises Unavailable without the extra `map`, WrongInput for an index with fewer than 10 passages.
    """
    check_installed()
    tell = on_step or (lambda step: None)
    with index.reading() as view:
        ids = view.ids()
        if len(ids) < FEWEST:
            raise WrongInput(f"the index in {index.path} has {len(ids)} passages: a map needs {FEWEST}")
        chosen = _drawn(ids)
        hashes = store.read_hashes(view.connection, chosen)
        tell(f"laying out {len(chosen):,} of {len(view):,} passages")
        points = lay_out(lambda rows: _vectors(view, chosen[rows]), len(chosen))
        tell("naming topics")
        language = index.settings.language or DEFAULT_LANGUAGE
        topics, names = topics_of(points, lambda rows: _texts(view, chosen, rows), language)
        made = CorpusMap(
            passages=chosen,
            hashes=hashes,
            points=points,
            topics=topics,
            names=names,
            fingerprint=index.settings.fingerprint,
            generation=view.generation,
            last=int(ids[-1]),
            total=len(view),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
    made.save(index.path)
    return made


def _drawn(ids: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS of the ids, ascending: those whose bits, well mixed, make the lowest numbers."""
    if len(ids) <= MOST_POINTS:
        return ids
    mixed = ids.astype(np.uint64) * _MIXED
    mixed ^= mixed >> np.uint64(32)
    mixed *= _MIXED
    return np.sort(ids[np.argpartition(mixed, MOST_POINTS)[:MOST_POINTS]])


def _vectors(view: View, ids: np.ndarray) -> np.ndarray:
    return view.vectors(ids.tolist())


def _texts(view: View, ids: np.ndarray, rows: Sequence[int]) -> list[str]:
    return [passage.encoded_text for passage in view.passages(ids[list(rows)].tolist())]
