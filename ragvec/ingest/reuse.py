"""vectors of an earlier run, found again by the hash of the text they were made from."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragvec.errors import NotFound
from ragvec.records import Passage
from ragvec.shards import Part, PartVectors, batch_stored, open_part

_OPEN_PARTS = 2  # rows that moved mostly stay neighbours: two parts in memory serve nearly all


class OldVectors:
    """Finished parts, as a sorted table of content hashes: 24 bytes a row."""

    def __init__(self, finished: Sequence[tuple[Path, Part]]) -> None:
        """finished: parts that are whole."""
        self._paths = [path for path, _ in finished]
        self._open: OrderedDict[int, pa.RecordBatch] = OrderedDict()
        hashes, places = [np.empty(0, "S16")], [np.empty((0, 2), np.int32)]
        for number, path in enumerate(self._paths):
            with open_part(path) as file:
                column = pq.read_table(file, columns=["content_hash"]).column(0)
            hashes.append(np.array([bytes.fromhex(text) for text in column.to_pylist()], "S16"))
            places.append(np.stack([np.full(len(column), number), np.arange(len(column))], axis=1).astype(np.int32))
        self._hashes, self._places = np.concatenate(hashes), np.concatenate(places)
        order = np.argsort(self._hashes, kind="stable")
        self._hashes, self._places = self._hashes[order], self._places[order]

    def fill(self, passages: Sequence[Passage], out: PartVectors) -> list[int]:
        """Fill in the rows whose text has a vector, and return the others."""
        if not len(self._hashes):
            return list(range(len(passages)))
        wanted = np.array([bytes.fromhex(passage.content_hash) for passage in passages], "S16")
        slots = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        known = self._hashes[slots] == wanted
        rows, places = np.flatnonzero(known), self._places[slots[known]]
        for number in np.unique(places[:, 0]):
            mine = places[:, 0] == number
            try:
                self._copy(self._part(int(number)), places[mine, 1], out, rows[mine])
            except (FileNotFoundError, NotFound):  # another rank's, or writer's, which has just been removed
                known[rows[mine]] = False
        missing: list[int] = np.flatnonzero(~known).tolist()
        return missing

    def _copy(self, part: pa.RecordBatch, from_rows: np.ndarray, out: PartVectors, to_rows: np.ndarray) -> None:
        out.stored.put(to_rows, batch_stored(part).rows(from_rows))
        out.token_counts[to_rows] = part.column("tokens").to_numpy()[from_rows]
        out.truncated[to_rows] = part.column("truncated").to_numpy(zero_copy_only=False)[from_rows]

    def _part(self, number: int) -> pa.RecordBatch:
        if number not in self._open:
            with open_part(self._paths[number]) as raw, pq.ParquetFile(raw) as file:
                columns = [name for name in ("tokens", "truncated", "scale", "embedding") if name in file.schema_arrow.names]
                self._open[number] = file.read(columns=columns).combine_chunks().to_batches()[0]
            if len(self._open) > _OPEN_PARTS:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]
