"""What an evaluation found."""

from dataclasses import dataclass, field
from typing import Any

from ragvec.retrieve import FUSIONS, Fusion, Mode

LEXICAL_NAME = "lexical (BM25)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The figures of one system on one data set.

    task      retrieval, similarity, classification, clustering or tagging
    encoder   where it was loaded from; "" where words alone were searched or a run file was read
    mode      dense, lexical or hybrid; None outside retrieval; fusion: how hybrid joined the two; reranker: what scored the
              hits again; settings: what else was asked for, such as dense_weight or passage_tokens
    figures   metric → value
    counts    how much was measured: documents and queries, or pairs; how many texts were truncated (in retrieval documents
              and queries apart)
    values    the same figures by query (retrieval) or text (classification): id → metric → value
    run       retrieval only: query_id → doc_id → score
    """

    dataset: str
    split: str | None
    task: str
    encoder: str
    fingerprint: str
    instruction: str
    figures: dict[str, float]
    counts: dict[str, int]
    mode: Mode | None = None
    fusion: Fusion | None = None
    reranker: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    values: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)
    run: dict[str, dict[str, float]] | None = field(default=None, repr=False)

    def as_record(self) -> dict[str, Any]:
        """One flat object of JSON values, figures and counts beside the rest."""
        names = ("dataset", "split", "task", "encoder", "fingerprint", "instruction")
        told = {name: getattr(self, name) for name in ("mode", "fusion", "reranker") if getattr(self, name) is not None}
        return {**{name: getattr(self, name) for name in names}, **told, **self.settings, **self.counts, **self.figures}

    @property
    def system(self) -> str:
        """A short name for a table's row: the encoder, and how it was searched if not by vectors alone."""
        name = LEXICAL_NAME if self.mode == "lexical" else short_name(self.encoder)
        how = f" ({self.fusion})" if self.fusion not in (None, FUSIONS[0]) else ""
        hybrid = f", hybrid{how}" if self.mode == "hybrid" else ""
        return name + hybrid + (f" + {short_name(self.reranker)}" if self.reranker else "")


def short_name(source: str) -> str:
    """The last part of a path or hub id; of a sentence-transformers package its own name."""
    parts = [part for part in source.replace("\\", "/").split("/") if part]
    if len(parts) > 1 and parts[-1] in ("model", "encoder"):  # a package's folder, which says more
        return parts[-2] if parts[-2] != "data" else "bundled"
    return parts[-1] if parts else source
