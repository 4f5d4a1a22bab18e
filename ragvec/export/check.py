"""Does the other library make the same vectors of the folder? It is asked in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ragvec.encoder import Encoder
from ragvec.encoder.forward import hidden_states
from ragvec.errors import RagvecError
from ragvec.export.sentence_transformer import same_border

TEXTS = [
    "how do plants make food?",
    "Photosynthesis turns light, water and carbon dioxide into sugar; most of it in leaves.",
    "  two spaces in front",
    "서울은 대한민국의 수도이다.",
    "one\ntwo\n\nthree",
    "fox",
    "The quick brown fox jumps over the lazy dog. " * 6 + "The end.",
]
_MISSING = 3  # the exit status of a script that does not find its library
_SCRIPT = f"""
import json, sys
folder, task, out = sys.argv[1:]
task = json.load(open(task, encoding="utf-8"))
try:
    {{imports}}
except ImportError as error:
    sys.exit({_MISSING})
import numpy as np
{{body}}
np.save(out, np.concatenate([np.asarray(part, dtype=np.float32) for part in parts]))
"""
# Each leaves `parts`: the vectors of queries and of documents; the plain layout pools nothing, so there it is the mean.
_SCRIPTS = {
    "sentence-transformers": ("from sentence_transformers import SentenceTransformer", """
model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": "float32"}, local_files_only=True)
parts = [model.encode_query(task["queries"])] if task["queries"] else []
parts += [model.encode_document(task["documents"])] + [model.encode_document([text]) for text in task["documents"]]
"""),
    "llm2vec": ("import torch; from llm2vec import LLM2Vec", """
model = LLM2Vec.from_pretrained(folder, torch_dtype=torch.float32)
options = {"show_progress_bar": False, "device": "cpu"}
queries = [[task["instruction"], text] if task["instruction"] else text for text in task["queries"]]
parts = [model.encode(queries, **options), model.encode(task["documents"], **options)]
parts += [model.encode([text], **options) for text in task["documents"]]
"""),
    "hf": ("import torch; from transformers import AutoModel", """
model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
longest = max(map(len, task["ids"]))
ids = torch.tensor([row + row[-1:] * (longest - len(row)) for row in task["ids"]])
mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in task["ids"]])
with torch.no_grad():
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
parts = [((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()]
"""),
    "ragvec": ("from ragvec import Encoder", """
encoder = Encoder.load(folder, device="cpu", dtype="float32", offline=True)
parts = [encoder.encode_queries(task["queries"], instruction=task["instruction"], normalize=False)]
parts += [encoder.encode_documents(task["documents"], normalize=False)]
parts += [encoder.encode_documents([text], normalize=False) for text in task["documents"]]
"""),
}  # fmt: skip


class Agreement(NamedTuple):
    """What the library says: the largest difference of a coordinate of the normalised vectors, and where it was.

    deviation is None where the library is not there; `where` then says so.
    """

    deviation: float | None
    where: str


def check(encoder: Encoder, to: str, folder: Path, python: str | None) -> Agreement:
    """Compare the vectors that a library makes of an exported folder with the encoder's own, both in float32.

    Raises RagvecError if the library can't read the folder.
    """
    encoder.model.float()
    task = _task(encoder, to)
    theirs = _ask(to, folder, task, python)
    if theirs is None:
        library = "transformers" if to == "hf" else to
        return Agreement(None, f"{library} is not installed in {python or 'this environment'}")
    ours = _own(encoder, to, task)
    if theirs.shape != ours.shape:
        return Agreement(float("inf"), f"shape {theirs.shape} for {ours.shape}")
    difference = np.abs(_normalized(theirs) - _normalized(ours)).max(axis=1)
    worst = int(difference.argmax())
    queries, documents = ([] if to == "hf" else task["queries"]), task["documents"]
    kind, text = (
        ("query", queries[worst]) if worst < len(queries) else ("document", [*documents, *documents][worst - len(queries)])
    )
    return Agreement(float(difference[worst]), f"most for the {kind} {text[:40]!r}")


def _task(encoder: Encoder, to: str) -> dict[str, Any]:
    """What both libraries encode: texts that neither has to shorten, which each does in its own way."""
    instruction = encoder.settings.query_instruction
    cut = encoder.prompts.build(TEXTS, instruction).truncated
    texts = [text for text, shortened in zip(TEXTS, cut, strict=True) if not shortened]
    queries = documents = texts
    if to == "sentence-transformers":
        queries, documents = same_border(encoder, texts, instruction), same_border(encoder, texts, "")
    return {
        "queries": queries,
        "documents": documents,
        "instruction": instruction,
        "ids": encoder.prompts.build(documents).ids,
    }


def _own(encoder: Encoder, to: str, task: dict[str, Any]) -> np.ndarray:
    if to == "hf":
        with torch.inference_mode():
            states = hidden_states(encoder.model, task["ids"], encoder.device, packed=bool(encoder.settings.packed))
        return np.stack([part.mean(0).numpy() for part in states.split([len(ids) for ids in task["ids"]])])
    settings = encoder.settings if to == "ragvec" else replace(encoder.settings, truncate_dim=None)  # others give whole vectors
    whole = Encoder(
        encoder.model, encoder.tokenizer, settings, source="", fingerprint="", projections=encoder.projections
    )  # fmt: skip
    queries = whole.encode_queries(task["queries"], instruction=task["instruction"], normalize=False)
    documents = whole.encode_documents(task["documents"], normalize=False)
    return np.concatenate([queries, documents, documents])


def _ask(to: str, folder: Path, task: dict[str, Any], python: str | None) -> np.ndarray | None:
    """The library's vectors, or None if it is not installed."""
    imports, body = _SCRIPTS[to]
    with tempfile.TemporaryDirectory() as name:
        question, answer = Path(name) / "task.json", Path(name) / "vectors.npy"
        question.write_text(json.dumps(task), encoding="utf-8")
        script = _SCRIPT.format(imports=imports, body=body)
        try:
            done = subprocess.run(
                [_interpreter(python), "-c", script, str(folder.resolve()), str(question), str(answer)],
                capture_output=True, text=True, cwd=name,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
            )  # fmt: skip
        except OSError as error:
            raise RagvecError(f"{python} can't be started ({error.strerror}): name a Python interpreter") from error
        if done.returncode == _MISSING:
            return None
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
            raise RagvecError(f"{to} can't read what was exported ({last[0]:.200}): nothing is written")
        vectors: np.ndarray = np.load(answer, allow_pickle=False)
        return vectors


def _interpreter(python: str | None) -> str:
    """A path stands as it is, since a virtual environment's interpreter is a link; a bare name is looked up."""
    return sys.executable if python is None else os.path.abspath(python) if os.sep in python else python


def _normalized(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
