import sys
import tempfile
from pathlib import Path

import lancedb
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
from markitdown import MarkItDown

folder, encoder = Path(sys.argv[1]), sys.argv[2]
model = get_registry().get("sentence-transformers").create(name=encoder)


class Passage(LanceModel):
    source: str
    text: str = model.SourceField()
    vector: Vector(model.ndims()) = model.VectorField()


def passages():
    reader = MarkItDown()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                text = reader.convert(path).markdown
            except Exception as error:
                print(f"{path}: {error}", file=sys.stderr)
                continue
            for start in range(0, len(text), 1000):
                if part := text[start : start + 1000].strip():
                    yield {"source": str(path.relative_to(folder)), "text": part}


table = lancedb.connect(tempfile.mkdtemp()).create_table("documents", schema=Passage)
table.add(list(passages()))
table.create_fts_index("text")
print(table.count_rows(), flush=True)
for question in sys.stdin:
    hits = table.search(question.strip(), query_type="hybrid").limit(10).to_list()
    print(*(hit["source"] for hit in hits), sep="\t")
