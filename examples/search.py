"""Index three documents and find them again: by meaning, by word, with a filter."""

import tempfile

from ragvec import Document, Encoder, Index, Retriever

DOCUMENTS = [
    Document("photosynthesis", "Plants turn light, water and air into sugar.", metadata={"lang": "en", "year": 2020}),
    Document("sky", "Air scatters short wavelengths of sunlight more than long ones.", metadata={"lang": "en", "year": 2023}),
    Document("hangul", "한글은 1443년에 세종대왕이 만든 글자이다.", metadata={"lang": "ko", "year": 2021}),
]

with tempfile.TemporaryDirectory() as folder:
    encoder = Encoder.load()  # the one that ships with ragvec; or a folder, or a hub id
    index = Index.create(f"{folder}/index", encoder=encoder)
    index.add(DOCUMENTS)
    retriever = Retriever(index, encoder)

    for query, options in [
        ("how do plants make food?", {}),
        ("wavelengths", {"mode": "lexical"}),
        ("글자", {"where": 'lang = "ko" and year > 2000'}),
    ]:
        best = retriever.retrieve(query, k=1, **options)[0]
        print(f"{query} -> {best.doc_id} ({best.score:.2f})")
    index.close()
