"""What one server takes on before it says no."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of everything that a request, or all requests together, may ask for; beyond it the answer is a 4xx.

    body_bytes        of one request (413); reading one holds up all others for a moment, by its size
    body_seconds      in which a request's body must arrive (408)
    all_body_bytes    of the bodies over SMALL_BODY of all requests in flight, until they are answered (429)
    texts             in one request: inputs, documents (422)
    query_characters  of one query (422)
    k                 hits of one search (422)
    candidates        passages that another server, which searches this one among others, may ask for at once (422)
    rerank_depth      hits that one search scores again (422)
    rerank_seconds    in which they must be scored (429)
    requests          in flight together (429)
    queue_batches     full batches of tokens that may wait to be encoded (429)
    answers           of a language model that are made at once (429)
    """

    body_bytes: int = 8 << 20
    body_seconds: float = 30.0
    all_body_bytes: int = 32 << 20
    texts: int = 2048
    query_characters: int = 8192
    k: int = 1000
    candidates: int = 25_600
    rerank_depth: int = 200
    rerank_seconds: float = 30.0
    requests: int = 1024
    queue_batches: int = 64
    answers: int = 4


SMALL_BODY = 64 << 10  # bytes that are read in a moment whatever they hold
