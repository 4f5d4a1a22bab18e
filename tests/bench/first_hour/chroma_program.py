import sys
import tempfile
from pathlib import Path

import chromadb
from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction
from markitdown import MarkItDown

folder, encoder = Path(sys.argv[1]), sys.argv[2]
client = chromadb.PersistentClient(tempfile.mkdtemp())
collection = client.create_collection("documents", embedding_function=SentenceTransformerEmbeddingFunction(encoder))
reader = MarkItDown()
for path in sorted(folder.rglob("*")):
    if path.is_file():
        try:
            text = reader.convert(path).markdown
        except Exception as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        source = str(path.relative_to(folder))
        parts = [part for start in range(0, len(text), 1000) if (part := text[start : start + 1000].strip())]
        if parts:
            ids = [f"{source}#{number}" for number in range(len(parts))]
            collection.add(ids=ids, documents=parts, metadatas=[{"source": source}] * len(parts))
print(collection.count(), flush=True)
for question in sys.stdin:
    found = collection.query(query_texts=[question.strip()], n_results=10)
    print(*(one["source"] for one in found["metadatas"][0]), sep="\t")
