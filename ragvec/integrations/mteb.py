"""MTEB (≥ 2) over a ragvec encoder and the real index; needs ragvec's extra `mteb`.

import mteb
from ragvec.integrations.mteb import MtebModel

model = MtebModel("McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp-supervised")
mteb.evaluate(model, mteb.get_tasks(tasks=["SciFact"]))
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ragvec.encoder import Encoder
from ragvec.encoder.instruction import parse
from ragvec.errors import RagvecError
from ragvec.evaluate.corpora import index_words
from ragvec.evaluate.instructions import TASK_INSTRUCTIONS, with_colon
from ragvec.evaluate.result import Evaluation, short_name
from ragvec.evaluate.vectors import normalizes_itself
from ragvec.index import Index
from ragvec.ingest.build import index_passages
from ragvec.integrations.mteb_tasks import find_tasks, import_mteb, preview, prompt_of
from ragvec.records import Passage
from ragvec.retrieve import DEFAULTS, Fusion, Mode, Options, Request, Retriever

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from torch import Tensor

_log = logging.getLogger("ragvec")
_QUERIES = 256  # searched at once
_HEX = 16


class MtebModel:
    """An encoder as MTEB's EncoderProtocol, and its index as MTEB's SearchProtocol, so retrieval tasks search the real one."""

    def __init__(
        self,
        model_name: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        *,
        encoder: Encoder | None = None,
        mode: Mode = "dense",
        fusion: Fusion = DEFAULTS["fusion"],
        dense_weight: float | None = DEFAULTS["dense_weight"],
        instruction: str | None = None,
    ) -> None:
        """Load an encoder, or take one that is loaded, with whatever else `Encoder.load` may be given.

        model_name   folder or hub id, as for `Encoder.load`, which also takes revision and device
        mode         how retrieval tasks are searched: dense, lexical (nothing is encoded then) or hybrid
        fusion       how hybrid joins its two rankings: weighted or rrf; dense_weight: the vectors' share, 0 … 1
        instruction  before the queries of every task; None = the task's own, if the encoder was trained with instructions
        """
        self.encoder = encoder or Encoder.load(model_name, revision=revision, device=device)
        self.mode = mode
        self.fusion = fusion
        self.dense_weight = Request(dense_weight=dense_weight).dense_weight
        self.instruction = instruction
        self._opened: tuple[Index, TemporaryDirectory[str]] | None = None  # of the last task

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """What MTEB writes beside the scores: source, fingerprint as revision, size."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        told = self.encoder.describe()
        name = told["source"] if told["source"].count("/") == 1 else f"ragvec/{short_name(told['source'])}"
        overwrites = {
            "name": name,
            "revision": f"{told['fingerprint'][:_HEX]}-{told['dtype']}",
            "n_parameters": told["parameters"],
            "max_tokens": told["max_length"],
            "embed_dim": told["dimension"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": bool(self.encoder.settings.query_instruction),
            "experiment_kwargs": self._experiment() or None,
        }
        return ModelMeta.create_empty(overwrites=overwrites)

    def _experiment(self) -> dict[str, str]:
        """What changes the scores and is not in the fingerprint: MTEB keeps the results of each apart."""
        given = self.instruction
        if given is None and not self.encoder.settings.query_instruction:
            given = ""  # whether an encoder has an instruction of its own is not in its fingerprint
        if given:  # MTEB makes a folder's name of it, in which ? and : are one
            given = f"{given} {hashlib.sha256(given.encode()).hexdigest()[:8]}"
        own = self.encoder.settings.document_instruction
        changed = {
            "documents": hashlib.sha256(own.encode()).hexdigest()[:8] if own else None,
            "mode": None if self.mode == "dense" else self.mode,
            "fusion": self.fusion if self.mode == "hybrid" and self.fusion != DEFAULTS["fusion"] else None,
            "dense_weight": str(self.dense_weight) if self.mode == "hybrid" and self.dense_weight is not None else None,
            "instruction": given,
        }
        return {name: value for name, value in changed.items() if value is not None}

    def task_instruction(self, task_metadata: Any, prompt_type: Any = None) -> str:
        """What is put before texts of a task: the prompt that the encoder has for it or its kind by name, as MTEB's encoders
        take it; else before documents the encoder's own, if any; else the instruction given, the reference's for this task, or
        MTEB's. An encoder without a query instruction of its own was not trained with any, and gets none; a
        sentence-transformers model puts its own prompt before queries, and nothing elsewhere."""
        kind, settings = getattr(prompt_type, "value", prompt_type), self.encoder.settings
        if self.instruction is not None and kind != "document":
            return self.instruction
        own = self.encoder.found.settings if self.encoder.found else settings
        named = _named_prompt(settings.prompts, task_metadata, kind)
        if named is not None and (kind != "document" or settings.document_instruction == own.document_instruction):
            return named
        if kind == "document":
            return settings.document_instruction
        if settings.attention == "unchanged" or not settings.query_instruction:
            return settings.query_instruction if kind == "query" else ""
        known = TASK_INSTRUCTIONS.get(task_metadata.name)
        return known if known is not None else with_colon(prompt_of(task_metadata))

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **_: Any
    ) -> np.ndarray:
        """Vectors (n, d) float32 of the batches' texts, as the encoder's own library gives them."""
        texts = [text for batch in inputs for text in batch["text"]]
        instruction = self.task_instruction(task_metadata, prompt_type)
        encoded = self.encoder.encode_counted(texts, instruction=instruction, normalize=normalizes_itself(self.encoder))
        if cut := int(encoded.truncated.sum()):
            _log.warning("%s, %s: %d of %d texts were cut", task_metadata.name, hf_split, cut, len(texts))
        return encoded.vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> "Tensor":
        """Cosines of all pairs, (n, m)."""
        from mteb.similarity_functions import cos_sim

        cosines: Tensor = cos_sim(embeddings1, embeddings2)
        return cosines

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> "Tensor":
        """Cosines of corresponding pairs, (n,)."""
        from mteb.similarity_functions import pairwise_cos_sim

        cosines: Tensor = pairwise_cos_sim(embeddings1, embeddings2)
        return cosines

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **_: Any) -> None:
        """Encode a corpus (rows with id, text and perhaps title) and build an index of it, in a temporary folder."""
        self.close()
        folder = TemporaryDirectory(prefix="ragvec-mteb-")
        path = Path(folder.name) / "index"
        instruction = self.task_instruction(task_metadata, "document")
        rows = (_passage(row, instruction) for row in corpus)
        if self.mode == "lexical":
            self._opened = index_words(path, rows, total=len(corpus), show=True), folder
            return
        index = Index.create(path, encoder=self.encoder, faiss_key="exact", document_instruction=instruction)
        self._opened = index, folder
        report = index_passages(index, rows, total=len(corpus), show_progress=True)
        if report.truncated:
            _log.warning("%s: %d of %d passages were cut", task_metadata.name, report.truncated, report.passages)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: Any = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """The best documents of each query, query id → document id → score; only among top_ranked's where it is given."""
        if self._opened is None:
            raise RagvecError("there is no corpus to search yet: MTEB calls index first")
        index, instruction = self._opened[0], self.task_instruction(task_metadata, "query")
        query_ids, texts = [str(name) for name in queries["id"]], [_query(row) for row in queries]
        if top_ranked is not None and self.mode == "lexical":
            raise RagvecError(f"{task_metadata.name} ranks given documents, which search by words does not: set `mode`")
        if top_ranked is not None:
            vectors = self.encoder.encode_queries(texts, instruction=instruction)
            return _rerank(index, dict(zip(query_ids, vectors, strict=True)), top_ranked, top_k)
        retriever, run = Retriever(index, None if self.mode == "lexical" else self.encoder), {}
        search = Options(mode=self.mode, fusion=self.fusion, dense_weight=self.dense_weight, instruction=instruction)
        for start in range(0, len(texts), _QUERIES):
            block = slice(start, start + _QUERIES)
            found = retriever.retrieve_many(texts[block], top_k, **search)
            for query_id, hits in zip(query_ids[block], found, strict=True):
                run[query_id] = {hit.doc_id: float(hit.score) for hit in hits}
        return run

    def close(self) -> None:
        """Remove the last task's index."""
        if self._opened is not None:
            index, folder = self._opened
            self._opened = None
            index.close()
            folder.cleanup()


def _named_prompt(prompts: dict[str, str], task_metadata: Any, kind: str | None) -> str | None:
    """The prompt for a task, or its type, where an encoder has one; None where it has not. In MTEB's order of names."""
    about = (task_metadata.name, task_metadata.type)
    names = (name for one in about for name in ((f"{one}-{kind}", one) if kind else (one,)))
    return next((prompts[name] for name in names if name in prompts), None)


def _passage(row: dict[str, Any], instruction: str) -> Passage:
    """A row of a corpus; MTEB's encoders read title and text as one, also where the instruction has a place for the title."""
    title, text = row.get("title") or "", row["text"].strip()
    if parse(instruction).titled:
        title, text = "", f"{title} {text}".strip()
    return Passage(str(row["id"]), str(row["id"]), text, title)


def _query(row: dict[str, Any]) -> str:
    """A query as MTEB hands it to its encoders: turns of a conversation joined, an instruction of its own behind a query."""
    text, told = row["text"], row.get("instruction")
    if isinstance(text, str):
        return f"{text} {told}" if told is not None else text
    turns = "; ".join(turn if isinstance(turn, str) else f"{turn['role']}: {turn['content']}" for turn in text)
    return f"{told} {turns}" if told is not None else turns


def _rerank(index: Index, vectors: dict[str, np.ndarray], top_ranked: Any, top_k: int) -> dict[str, dict[str, float]]:
    """Of each query the best of the documents that MTEB found for it."""
    run = {}
    with index.reading() as view:
        numbers = {doc_id: number for number, doc_id in view.listing()}
        names = {number: name for name, number in numbers.items()}
        for query_id, vector in vectors.items():
            allowed = np.array(sorted(numbers[str(name)] for name in top_ranked[query_id]), dtype=np.int64)
            found = view.search(vector[None], min(top_k, len(allowed)), allowed=allowed)
            pairs = zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True)
            run[query_id] = {names[number]: score for number, score in pairs if number >= 0}
    return run


def evaluate_mteb(
    tasks: Sequence[Any],
    encoder: Encoder,
    *,
    mode: Mode = "dense",
    fusion: Fusion = DEFAULTS["fusion"],
    dense_weight: float | None = DEFAULTS["dense_weight"],
    instruction: str | None = None,
    results: Path | None = None,
    show_progress: bool = False,
) -> Iterator[Evaluation]:
    """MTEB's main score of an encoder on tasks, one evaluation each as it is done (figures: main_score, averaged as MTEB does).

    tasks    names of tasks ("SciFact") or benchmarks ("MTEB(eng, v1)"), or task objects; offline (HF_HUB_OFFLINE=1) their
             data comes from the hub's cache
    results  a folder where MTEB keeps its result files and takes finished ones from
    Raises RagvecError if mteb is not installed, a task is unknown, or its data can't be had.
    """
    mteb = import_mteb()
    model = MtebModel(encoder=encoder, mode=mode, fusion=fusion, dense_weight=dense_weight, instruction=instruction)
    cache = None if results is None else mteb.ResultCache(cache_path=results)
    for task in find_tasks(tasks):
        try:
            found = mteb.evaluate(model, task, cache=cache, co2_tracker=False, show_progress_bar=show_progress)
        except OSError as error:  # data that is not in the cache and can't be fetched, mostly
            raise RagvecError(f"MTEB's task {task.metadata.name}: {' '.join(str(error).split())}") from error
        finally:
            model.close()
        yield from (_evaluation(one, task.metadata, model) for one in found.task_results)


def preview_mteb(
    tasks: Sequence[Any], encoder: Encoder, *, mode: Mode = "dense", instruction: str | None = None
) -> list[dict[str, Any]]:
    """What `evaluate_mteb` would do, as JSON values: the encoder, then each task with its splits, subsets and whole prompts."""
    model = MtebModel(encoder=encoder, mode=mode, instruction=instruction)
    told = {**encoder.describe(), "skip_instruction": encoder.settings.skip_instruction}
    return [told, *preview(encoder, find_tasks(tasks), model.task_instruction)]


def _evaluation(found: Any, metadata: Any, model: MtebModel) -> Evaluation:
    return Evaluation(
        dataset=metadata.name,
        split=", ".join(found.scores),
        task=metadata.type,
        encoder=model.encoder.source,
        fingerprint=model.encoder.fingerprint,
        instruction=model.task_instruction(metadata, "query"),
        figures={"main_score": float(found.get_score())},
        counts={},
        mode=model.mode if metadata.type.endswith("Retrieval") else None,
        fusion=model.fusion if metadata.type.endswith("Retrieval") and model.mode == "hybrid" else None,
    )
