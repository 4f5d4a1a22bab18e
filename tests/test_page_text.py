"""The search page without a browser: what its files hold, and which policy it comes with."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ragvec import errors
from ragvec.serve.status_routes import _page

ROOM = Path(__file__).resolve().parent.parent / "ragvec" / "serve"
SCRIPTS = sorted((ROOM / "page").glob("*.js"))
WORDS = (ROOM / "page" / "words.js").read_text(encoding="utf-8")


def languages() -> dict[str, dict[str, str]]:
    """Names and what follows them, by language."""
    parts = re.split(r"^  (en|ko): \{$", WORDS.partition("\n};\n")[0], flags=re.M)[1:]
    found = {}
    for language, text in zip(parts[::2], parts[1::2], strict=True):
        found[language] = dict(re.findall(r'(?:^|[ ,])([a-zA-Z]+): ((?:\([a-z, ]*\) => )?["`$][^"`]*)', text, flags=re.M))
    return found


def test_both_languages_say_the_same_things():
    english, korean = languages()["en"], languages()["ko"]
    assert english.keys() == korean.keys() and len(english) > 50
    for name in english:
        taken = re.match(r"\([a-z, ]*\)", english[name]), re.match(r"\([a-z, ]*\)", korean[name])
        assert (taken[0] and taken[0][0]) == (taken[1] and taken[1][0]), f"{name} takes other arguments"
        assert name in ("cosine",) or re.search("[가-힣]|API", korean[name]), f"{name} is not said in Korean"


def test_everything_that_is_said_is_in_the_words():
    said = {name for path in SCRIPTS for name in re.findall(r"\bsay\.([a-zA-Z]+)", path.read_text(encoding="utf-8"))}
    said |= set(re.findall(r'data-say="(\w+)"', (ROOM / "search.html").read_text(encoding="utf-8")))
    by_status = set(re.findall(r'\d+: "(\w+)"', (ROOM / "page" / "call.js").read_text(encoding="utf-8")))
    assert said | by_status == set(languages()["en"])


def test_every_status_of_an_error_has_words():
    known = set(map(int, re.findall(r'(\d+): "\w+"', (ROOM / "page" / "call.js").read_text(encoding="utf-8")))) | {401}
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.RagvecError)]
    raised = {one.status for one in classes}
    guards = " ".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    raised |= set(map(int, re.findall(r"(?:HTTPException|Refused|refuse|error_response)\((\d{3})", guards))) - {415}
    assert raised <= known, "415 is said to no page: its bodies are JSON"


def test_nothing_is_put_into_the_page_but_as_text():
    for path in [*SCRIPTS, ROOM / "search.html"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc", text), (
            path.name
        )
        assert not re.search(r"<[^>]*\s(on\w+|style)=", text), path.name
        assert len(text.splitlines()) <= 400
    links = [line for path in SCRIPTS for line in path.read_text(encoding="utf-8").splitlines() if "href:" in line]
    assert len(links) == 1 and "noopener noreferrer" in links[0], "one place makes links, behind a check for http"


def test_only_the_pages_own_scripts_may_run():
    page = _page("search.html")
    policy = page.headers["content-security-policy"]
    scripts = re.findall(rb"<script>(.*?)</script>", page.body, flags=re.S)
    assert len(scripts) == len(SCRIPTS) and b"src=" not in page.body.partition(b"<body>")[2]
    allowed = re.search(r"script-src ([^;]*)", policy)[1].split()
    assert allowed == [f"'sha256-{base64.b64encode(hashlib.sha256(one).digest()).decode()}'" for one in scripts]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "connect-src 'self'" in policy


@pytest.fixture(scope="module")
def client(tiny_decoder, tmp_path_factory):
    from ragvec.encoder import Encoder
    from ragvec.index import Index
    from ragvec.records import Document
    from ragvec.serve import Service, create_app

    path = tmp_path_factory.mktemp("overview") / "index"
    encoder = Encoder.load(tiny_decoder)
    titles = ["How plants make food", "Why there are seasons", "The lazy dog", "Rivers of Korea"]
    with Index.create(path, encoder=encoder) as index:
        index.add(
            Document(
                f"{n}",
                f"Text number {n} about {word}.",
                titles[n % 4] if n < 8 else f"file_{n}.txt",
                {"lang": "en" if n % 3 else "ko", "url": f"https://example.org/{n}", "path": f"a/{n}.pdf", "page": 2, "n": n},
            )
            for n, word in enumerate(["plants", "rivers"] * 6)
        )
    with Service(encoder, path) as service:
        yield TestClient(create_app(service), base_url="http://localhost")


def test_the_overview_says_what_there_is_and_what_to_ask(client):
    overview = client.get("/overview").json()
    assert (overview["documents"], overview["passages"]) == (12, 12)
    assert overview["fields"] == [
        {"field": "lang", "values": [{"value": "en", "documents": 8}, {"value": "ko", "documents": 4}]}
    ], "values that every document has for itself are none to choose from"
    assert overview["examples"] == ["How plants make food", "Why there are seasons", "The lazy dog", "Rivers of Korea"]


def test_facets_count_the_documents_found(client):
    body = {"query": "plants", "mode": "lexical", "k": 1, "facets": True, "highlight": True}
    answer = client.post("/search", json=body).json()
    assert answer["facets"] == [{"field": "lang", "values": [{"value": "en", "documents": 4}, {"value": "ko", "documents": 2}]}]
    assert len(answer["hits"]) == 1
    shown = answer["hits"][0]["highlight"]
    number = answer["hits"][0]["doc_id"]
    assert (shown["file"], shown["page"], shown["url"]) == (f"a/{number}.pdf", 2, f"https://example.org/{number}")
    assert "facets" not in client.post("/search", json={**body, "facets": False}).json()


def test_weak_matches_count_for_no_facet(client):
    answer = client.post("/search", json={"query": "plants alpha beta gamma", "mode": "lexical", "facets": True}).json()
    assert answer["hits"] and all(hit["weak"] for hit in answer["hits"]) and answer["facets"] == []


def test_the_page_is_told_what_it_may_show(client):
    info = client.get("/info").json()
    assert (info["similar"], info["map"], info["modes"]) == (True, False, ["hybrid", "dense", "lexical"])


def test_similar_documents_leave_the_document_out_and_heed_the_filter(client):
    hits = client.post("/similar", json={"doc_id": "0", "k": 5}).json()["hits"]
    assert len(hits) == 5 and "0" not in {hit["doc_id"] for hit in hits} and [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert all(one["score"] >= other["score"] for one, other in zip(hits, hits[1:], strict=False))
    korean = client.post("/similar", json={"doc_id": "1", "where": "lang = $lang", "where_values": {"lang": "ko"}}).json()[
        "hits"
    ]
    assert {hit["doc_id"] for hit in korean} == {"0", "3", "6", "9"}
    assert client.post("/similar", json={"doc_id": "none"}).status_code == 404
    assert client.post("/similar", json={"doc_id": "0", "passage_id": "1"}).status_code == 404
    assert client.post("/similar", json={"doc_id": "0", "k": 1001}).status_code == 422


def test_a_wrong_filter_says_where_it_is_wrong(client):
    error = client.post("/search", json={"query": "x", "where": "lang = en"}).json()["error"]
    assert (error["param"], error["column"], error["code"]) == ("where", 8, 400)
