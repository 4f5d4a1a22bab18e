import sys
from pathlib import Path

from txtai import Embeddings
from txtai.pipeline import Textractor

folder, encoder = Path(sys.argv[1]), sys.argv[2]
textractor = Textractor(sections=True, backend="docling")  # Tika would be fetched, too


def passages():
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                for number, text in enumerate(textractor(str(path))):
                    yield f"{path.relative_to(folder)}#{number}", text
            except Exception as error:
                print(f"{path}: {error}", file=sys.stderr)


embeddings = Embeddings(path=encoder, hybrid=True, content=True)
embeddings.index(passages())
print(embeddings.count(), flush=True)
for question in sys.stdin:
    print(*(hit["id"].partition("#")[0] for hit in embeddings.search(question.strip(), 10)), sep="\t")
