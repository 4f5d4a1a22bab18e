"""Who is making which part: so that several writers over object storage share a corpus' parts, and take over a lost one's.

claims/PROVENANCE/CONTENT/000001    created once: who makes the part with this digest; the highest number counts
writers/NAME                        written again and again while a writer lives; a claim of one that has fallen silent is void,
                                    on the same machine also of one whose process has ended

A claim only saves work: a part counts by its record, whoever made it, and what two writers make is the same. Time is the
store's own, by when it says an object was written; no clock of a writer is asked.
"""

import hashlib
import os
import platform
import secrets
import threading
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta

from ragvec.errors import NotFound, RagvecError
from ragvec.objects import Bucket
from ragvec.shards import Provenance
from ragvec.shards.stored import WRITERS, claim_name

HERE = hashlib.blake2b(platform.node().encode(), digest_size=8).hexdigest()
EXPIRY_S = 60.0  # of silence, after which what a writer claimed is free
BEATS = 4  # in that time
PAUSE_S = 2.0  # between looks at what other writers make


class Claims:
    """A writer's claims. Use as a context: leaving it, and dying, frees what it has claimed and not made."""

    def __init__(self, bucket: Bucket, provenance: Provenance, *, expiry_s: float = EXPIRY_S) -> None:
        self._bucket, self._provenance = bucket, provenance
        self._expiry = timedelta(seconds=expiry_s)
        self._name = f"{HERE}-{os.getpid()}-{secrets.token_hex(4)}"
        self._left = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> "Claims":
        self._bucket.put(WRITERS + self._name, b"")
        there = list(self._bucket.names(WRITERS))  # first: who begins while this one looks is living, and must stay
        living = {WRITERS + name for name in self._living()}
        self._bucket.remove(name for name in there if name not in living)
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._beating.join()
        with suppress(RagvecError):  # it is void soon
            self._bucket.remove([WRITERS + self._name])

    def take(self, digest: str) -> bool:
        """Claim the part with these passages; False = another writer that is alive makes it."""
        last = self._last(digest)
        if last and (holder := self._holder(digest, last)) in self._living() | {self._name}:
            return holder == self._name
        return self._bucket.create(claim_name(self._provenance, digest, last + 1), self._name.encode())

    def pause(self) -> None:
        """Wait a little for other writers."""
        self._left.wait(PAUSE_S)

    def taken(self, digests: Collection[str]) -> bool:
        """Whether living writers make all of these parts."""
        living = self._living()
        return all((last := self._last(digest)) and self._holder(digest, last) in living for digest in digests)

    def _last(self, digest: str) -> int:
        folder = claim_name(self._provenance, digest)
        numbers = (name.rpartition("/")[2] for name in self._bucket.names(folder))
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def _holder(self, digest: str, number: int) -> str:
        try:
            return self._bucket.read(claim_name(self._provenance, digest, number)).decode("ascii", "replace")
        except NotFound:  # removed, with a whole manifest
            return ""

    def _living(self) -> set[str]:
        beats = {found.name.rpartition("/")[2]: found.modified for found in self._bucket.listed(WRITERS)}
        now: datetime = max(beats.values(), default=datetime.min)  # the store's, or up to a beat behind it: this writer lives
        return {name for name, beat in beats.items() if now - beat <= self._expiry and not _has_ended(name)}

    def _beat(self) -> None:
        while not self._left.wait(self._expiry.total_seconds() / BEATS):
            with suppress(RagvecError):  # whose claims expire if it stays so
                self._bucket.put(WRITERS + self._name, b"")


def _has_ended(name: str) -> bool:
    """Whether this is a writer of this machine whose process is not there any more: it need not be waited for."""
    here, _, rest = name.partition("-")
    pid = rest.partition("-")[0]
    if here != HERE or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False
