"""What the server measures of itself, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ragvec.serve.batcher import BatchReport

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = tuple(4**power for power in range(1, 10))
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters and histograms of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("ragvec_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.request_seconds = Histogram(
            "ragvec_request_seconds", "From a request's head to its answer's end.", ["path"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("ragvec_requests_in_flight", "Requests being worked on.", registry=registry)
        self.disconnects = Counter("ragvec_disconnects", "Clients that left before their answer.", registry=registry)
        self.tokenize_seconds = self._seconds("tokenize", "Tokenizing a request's texts.")
        self.queue_seconds = self._seconds("queue", "Waiting for the first batch.")
        self.encode_seconds = self._seconds("encode", "Encoding one batch.")
        self.search_seconds = self._seconds("search", "Reading the index, waiting for a thread included.")
        self.batch_tokens = Histogram("ragvec_batch_tokens", "Tokens in a batch.", buckets=SIZES, registry=registry)
        self.batch_jobs = Histogram("ragvec_batch_requests", "Requests that share a batch.", buckets=SIZES, registry=registry)
        self.texts = Counter("ragvec_texts", "Texts encoded.", registry=registry)
        self.tokens = Counter("ragvec_tokens", "Tokens encoded.", registry=registry)
        self.truncated = Counter("ragvec_texts_truncated", "Texts that were longer than the encoder reads.", registry=registry)
        self.queue_tokens = Gauge("ragvec_queue_tokens", "Tokens that wait for a batch.", registry=registry)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Ask `depth` for the queue's tokens whenever the metrics are read."""
        self.queue_tokens.set_function(depth)

    def batch(self, report: BatchReport) -> None:
        """Count a batch that ran."""
        self.encode_seconds.observe(report.seconds)
        self.batch_tokens.observe(report.tokens)
        self.batch_jobs.observe(report.jobs)
        self.texts.inc(report.texts)
        self.tokens.inc(report.tokens)
        for wait in report.waits:
            self.queue_seconds.observe(wait)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def _seconds(self, name: str, what: str) -> Histogram:
        return Histogram(f"ragvec_{name}_seconds", what, buckets=SECONDS, registry=self._registry)
