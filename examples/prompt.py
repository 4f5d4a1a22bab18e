"""From a question to a prompt with numbered sources, ready for any language model."""

import tempfile
from pathlib import Path

from ragvec import Index, Retriever
from ragvec.data import data_path
from ragvec.ingest.build import build
from ragvec.retrieve.context import build_context

QUESTION = "how do plants make food?"

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "index"
    build(data_path("corpus.jsonl"), path)
    with Index.open(path) as index:
        hits = Retriever(index, index.encoder).retrieve(QUESTION, k=3)
        context = build_context(QUESTION, hits, 300, index.encoder.count_tokens)
    print(context.text)
    print(f"{context.tokens} tokens; sources: {', '.join(hit.doc_id for hit in context.sources)}")
