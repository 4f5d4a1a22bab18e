"""Behind proxies and in other sites' pages: other names, other origins, other paths."""

import re
import shutil
import socket
import subprocess
from contextlib import contextmanager

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from ragvec.errors import WrongInput
from ragvec.serve import create_app
from ragvec.serve.guard import LOCAL_NAMES, names_answered_to
from tests.conftest import REPOSITORY
from tests.serving import wait_until
from tests.test_page import running
from tests.test_serve_api import encoder, folder, service  # noqa: F401 - fixtures

SITE = "https://app.example.org"
# what openai-node 5 sends beside the key, as a browser lists it
OPENAI_NODE = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
    "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
)
PATHS = ("/", "/docs", "/openapi.json", "/health", "/ready", "/info", "/v1/models", "/metrics", "/documents/fox")


def client(service, **options) -> TestClient:
    return TestClient(create_app(service, **options), base_url="http://localhost", follow_redirects=False)


def test_a_page_of_an_allowed_site_may_use_openai_node(service):
    with client(service, origins=[SITE], api_key="sesame") as asked:
        wanted = {"access-control-request-method": "POST", "access-control-request-headers": OPENAI_NODE}
        answer = asked.options("/v1/embeddings", headers={"origin": SITE, **wanted})
        assert answer.status_code == 204 and answer.headers["access-control-allow-origin"] == SITE
        allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
        assert allowed >= set(OPENAI_NODE.split(",")) and "POST" in answer.headers["access-control-allow-methods"]
        sent = {"origin": SITE, "authorization": "Bearer sesame", "x-stainless-lang": "js"}
        answer = asked.post("/embed", json={"inputs": "fox"}, headers=sent)
        exposed = re.split(", *", answer.headers["access-control-expose-headers"])
        assert {"x-ragvec-truncated", "x-ragvec-index", "retry-after"} <= set(exposed)
        assert answer.headers["access-control-allow-origin"] == SITE and answer.headers["vary"] == "origin"
        refused = asked.options("/v1/embeddings", headers={"origin": "https://evil.example", **wanted})
        assert refused.status_code == 403 and "access-control-allow-headers" not in refused.headers
        assert "--origin https://evil.example" in refused.text


def test_the_names_that_a_server_answers_to():
    assert names_answered_to("127.0.0.1", None) == LOCAL_NAMES
    assert names_answered_to("127.0.0.1", "key") is None and names_answered_to("0.0.0.0", None) is None
    for key in (None, "key"):
        assert names_answered_to("127.0.0.1", key, ["Search.example.org"]) == {*LOCAL_NAMES, "search.example.org"}


def test_a_name_that_a_proxy_uses(service):
    names = names_answered_to("127.0.0.1", None, ["search.example.org"])
    with client(service, host_names=names) as asked:
        for host in ("search.example.org", "SEARCH.example.org:8443", "localhost:8000"):
            assert asked.get("/info", headers={"host": host}).status_code == 200
        refused = asked.get("/info", headers={"host": "evil.example"})
        assert refused.status_code == 403 and "--host-name" in refused.text


@pytest.mark.parametrize(
    ("key", "options", "headers", "status"),
    [
        ("sesame", {}, {"host": "mcp.example.org"}, 200),  # 421 before
        ("sesame", {"host_names": ["mcp.example.org"]}, {"host": "mcp.example.org"}, 200),
        ("sesame", {"host_names": ["mcp.example.org"]}, {"host": "evil.example"}, 403),
        (None, {"host_names": ["mcp.example.org"]}, {"host": "mcp.example.org:443"}, 200),
        (None, {}, {"host": "mcp.example.org"}, 403),
        (None, {"origins": [SITE]}, {"origin": SITE}, 200),
        (None, {}, {"origin": SITE}, 403),
    ],
)
def test_mcp_behind_a_proxy_with_another_host(folder, key, options, headers, status):
    pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'ragvec[mcp]'")
    import httpx2

    from ragvec.serve.mcp import create_mcp_server, http_app

    begin = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    }
    accepted = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {key}"}
    with running(http_app(create_mcp_server(folder), host="127.0.0.1", api_key=key, **options), lifespan="on") as address:
        answer = httpx2.post(f"{address}/mcp", json=begin, headers={**accepted, **headers})
    assert answer.status_code == status, answer.text
    if status == 403:
        assert re.search(r"--(host-name|origin)", answer.text)


def look_around(asked, base: str) -> None:
    """Every kind of request under a path, and what the page refers to."""
    for path in PATHS:
        assert asked.get(base + path).status_code == 200, path
    assert asked.head(base + "/health").status_code == 200
    assert asked.post(base + "/search", json={"query": "fox", "mode": "lexical"}).json()["hits"][0]["doc_id"] == "fox"
    assert asked.get(base + "/documents/%EB%AC%B8%EC%84%9C%2F%EC%84%9C%EC%9A%B8").json()["doc_id"] == "문서/서울"
    bare = asked.get(f"{base}?q=fox")
    assert bare.status_code in (301, 307, 308) and re.sub("^http://[^/]+", "", bare.headers["location"]) == f"{base}/?q=fox"


@pytest.mark.parametrize("root", ["/rag", "/search", "/deep/er"])
def test_under_a_path_that_the_proxy_passes_on(service, root):
    with client(service, root_path=root + "/") as asked:
        look_around(asked, root)
        assert asked.get(root + "/openapi.json").json()["servers"] == [{"url": root}]
        assert asked.post("/search", json={"query": "fox"}).status_code == 200, (
            "a proxy may cut it, and this machine asks without"
        )
        assert asked.get(root + "er/health").status_code == 404 and asked.get(root + root + "/health").status_code == 404
        counted = asked.get("/metrics").text
        assert 'path="/search"' in counted and f'path="{root}/search"' not in counted


def test_the_key_is_asked_for_under_a_path_too(service):
    with client(service, root_path="/rag", api_key="sesame") as asked:
        for path in PATHS:
            assert asked.get(f"/rag{path}").status_code == (200 if path in PATHS[:5] else 401)
        assert asked.post("/rag/search", json={"query": "fox"}).status_code == 401


def test_mounted_in_another_application(service):
    app = Starlette(routes=[Mount("/rag", create_app(service))])
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as asked:
        look_around(asked, "/rag")


@pytest.mark.parametrize("path", ["rag", "/a b", "/a//b", "http://x/y", "/x?y", "/\r\n"])
def test_wrong_root_paths(service, path):
    with pytest.raises(WrongInput, match="the root path is"):
        create_app(service, root_path=path)


# what docs/deploying.md gives to copy: nginx cuts the path off
DEPLOYED = re.search(r"```nginx\n(.*?)```", (REPOSITORY / "docs/deploying.md").read_text(encoding="utf-8"), re.S).group(1)


@contextmanager
def nginx(tmp_path, location: str):
    """A real nginx with one location; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {places} server {{ listen 127.0.0.1:{port}; absolute_redirect off; {location} }} }}"
    )
    process = subprocess.Popen([shutil.which("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    try:
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: apt-get install nginx")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("cuts", [True, False], ids=["cuts", "passes"])
def test_behind_a_real_nginx(service, tmp_path, cuts):
    import httpx2

    app = create_app(service, root_path="" if cuts else "/rag", host_names=LOCAL_NAMES)
    with running(app) as address:
        location = (
            DEPLOYED if cuts else "location /rag/ { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $http_host; }"
        )
        location = location.replace("http://127.0.0.1:8000", address)
        with nginx(tmp_path, location) as outside, httpx2.Client(base_url=outside, timeout=30) as asked:
            look_around(asked, "/rag")
            page = asked.get("/rag/").text
            links = re.findall(r"(?:href=|fetch\(|call\()[\"'`]([^\"'`#$]*)", page + asked.get("/rag/docs").text)
            assert links and not [link for link in links if link.startswith("/")]
            origin = {"origin": outside}
            assert asked.post("/rag/search", json={"query": "fox"}, headers=origin).status_code == 200
