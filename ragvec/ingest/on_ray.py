"""Encoding on a Ray cluster (the extra `ray`): an actor on each GPU holds the encoder, and the unit of work is one part.

This process reads the corpus, hands parts out, and stores what comes back, in order: so nothing but its encoder is asked of
the other machines, neither the output nor credentials, and a run is resumed as any other. An actor that is lost is started
again, wherever there is room, and its part is encoded anew.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ragvec.corpus.ahead import Ahead
from ragvec.errors import RagvecError, WrongInput, first_line
from ragvec.ingest.blocks import MOST_FAILURES, BlockEncoder, Encodes, Made, Wanted
from ragvec.records import Passage
from ragvec.shards import Provenance

AUTO = "auto"
_TRIES = 3  # of a part whose actor is lost, after the first
_QUEUED = 2  # parts of an actor: the one it is at, and the next, which is on its way meanwhile
_SPARE = 3  # parts beyond those: read, stored, written


class _Answer(NamedTuple):
    """Rows of a part, and the encoder's answer, or why there is none."""

    rows: list[int]
    encoded: Any
    reason: str


class RayActors:
    """Actors that hold an encoder. Use as a context; what they encode is asked for by `encode_corpus(…, elsewhere=…)`.

    parts_ahead   how many parts may be on their way at once; so many are held in this process' memory
    """

    def __init__(
        self, load: Callable[[], Encodes], fingerprint: str, *, address: str = AUTO, actors: int | None = None
    ) -> None:
        """Connect, and start the actors; they load the encoder while the corpus is opened.

        load         makes the encoder, in each actor; fingerprint: what it must be there
        address      of a cluster: HOST:PORT, ray://…; "auto" = the one that runs on this machine, or one of its own
        actors       how many; None = one for each GPU of the cluster or, where there are none, for each machine
        Raises RagvecError where Ray is missing or does not answer.
        """
        ray = _ray()
        self._owned = not ray.is_initialized()
        if self._owned:
            with _told("Ray does not start, or answer, here"):
                ray.init(
                    None if address == AUTO else address, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
                )
        share = _share(ray.cluster_resources(), len(ray.nodes()), actors)
        worker = ray.remote(_Worker).options(max_restarts=-1, max_task_retries=_TRIES, **share.resources)
        self._actors = [worker.remote(load, fingerprint) for _ in range(share.actors)]
        self.parts_ahead = _QUEUED * share.actors + _SPARE

    def __enter__(self) -> "RayActors":
        return self

    def __exit__(self, *_: object) -> None:
        ray = _ray()
        for actor in self._actors:
            with suppress(Exception):  # lost already
                ray.kill(actor)
        if self._owned:
            ray.shutdown()

    def encode(self, wanted: Iterable[Wanted], provenance: Provenance) -> Generator[Made, None, None]:
        """See Computes. Parts are handed out by a thread that runs ahead, and what comes of them is given in their order."""
        ray = _ray()
        with Ahead(self._handed_out(wanted, provenance), "ray", self.parts_ahead) as parts:
            for part, coming in parts:
                with _told(f"the part that begins with passage {part.passages[part.rows[0]].passage_id!r} was not encoded"):
                    answers = ray.get(coming)
                for rows, encoded, reason in answers:
                    yield Made(part, [part.rows[row] for row in rows], encoded, reason)

    def _handed_out(self, wanted: Iterable[Wanted], provenance: Provenance) -> Iterator[tuple[Wanted, Any]]:
        queues: list[deque[Any]] = [deque() for _ in self._actors]
        for part in wanted:
            place = _shortest(queues)
            passages = [part.passages[row] for row in part.rows]
            coming = self._actors[place].encode.remote(passages, provenance)
            queues[place].append(coming)
            yield part, coming


class _Worker:
    """The encoder on a GPU, in a process of its own."""

    def __init__(self, load: Callable[[], Encodes], fingerprint: str) -> None:
        self._encoder, self._fingerprint = load(), fingerprint

    def encode(self, passages: list[Passage], provenance: Provenance) -> list[_Answer]:
        """What the encoder makes of a part's passages; it ends where so many fail in a row that the run will stop."""
        if self._encoder.fingerprint != self._fingerprint:
            raise WrongInput(
                f"the encoder {self._encoder.source} is another on one of the machines (fingerprint "
                f"{self._encoder.fingerprint[:12]} instead of {self._fingerprint[:12]}): let all of them have the same files"
            )
        answers: list[_Answer] = []
        failing = 0
        part = Wanted(None, passages, range(len(passages)))
        for made in BlockEncoder(self._encoder, provenance).encode([part]):
            answers.append(_Answer(made.rows, made.encoded, made.reason))
            failing = failing + 1 if made.encoded is None else 0
            if failing == MOST_FAILURES:
                break
        return answers


class _Share(NamedTuple):
    """How many actors there are, and what Ray is to keep for each."""

    actors: int
    resources: dict[str, float]


def _share(cluster: dict[str, float], machines: int, actors: int | None) -> _Share:
    gpus, cores = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 1))
    count = actors or gpus or machines
    if gpus:
        return _Share(count, {"num_gpus": min(1, gpus / count)})
    return _Share(count, {"num_cpus": max(1, cores // count)})


def _shortest(queues: list[deque[Any]]) -> int:
    """The actor with the fewest parts before it; waits until one has room."""
    ray = _ray()
    while True:
        for queue in queues:
            while queue and ray.wait([queue[0]], timeout=0)[0]:
                queue.popleft()
        place = min(range(len(queues)), key=lambda place: len(queues[place]))
        if len(queues[place]) < _QUEUED:
            return place
        ray.wait([queue[0] for queue in queues], num_returns=1)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RagvecError(f"encoding on a cluster needs Ray ({error}): pip install 'ragvec[ray]'") from error
    return ray


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn Ray's errors into ours: what an actor raised as itself, the rest with these words before it."""
    ray = _ray()
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RagvecError):
            raise WrongInput(str(error.cause)) from None
        raise RagvecError(
            f"{what}: {type(error.cause).__name__}: {first_line(error.cause)}. Finished parts are kept"
        ) from error
    except (ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise RagvecError(f"{what}: {first_line(error)}. Finished parts are kept: run the same command again") from error
