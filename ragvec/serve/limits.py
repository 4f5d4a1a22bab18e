"""What one server takes on before it says no."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of everything that a request, or all requests together, may ask for; beyond it the answer is a 4xx.

    body_bytes        of one request (413)
    body_seconds      in which a request's body must arrive (408)
    texts             in one request: inputs, documents (422)
    query_characters  of one query (422)
    k                 hits of one search (422)
    requests          in flight together (429)
    queue_batches     full batches of tokens that may wait to be encoded (429)
    """

    body_bytes: int = 16 << 20
    body_seconds: float = 30.0
    texts: int = 2048
    query_characters: int = 8192
    k: int = 1000
    requests: int = 1024
    queue_batches: int = 64
