"""The search page in a real browser: found, not found, refused, filtered, opened, by keyboard, on a phone, in the dark."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ragvec.encoder import Encoder
from ragvec.index import Index
from ragvec.records import Document
from ragvec.serve import Service, create_app
from ragvec.serve.run import server_config
from tests.browser import Browser, browsing

DOCUMENTS = [
    Document("fox", "The quick brown fox jumps over the lazy dog. 🦊 A fox again.", "Foxes & <b>dogs</b>", {"year": 2020}),
    Document("문서/서울 1", "서울은 대한민국의 수도이다.", "대한민국", {"year": 1999, "lang": "ko"}),
    *(Document(f"apple{n}", f"An apple, number {n}.", f"Apple {n}", {"year": 2000 + n}) for n in range(25)),
]
pytestmark = pytest.mark.browser
CARDS = "[...document.querySelectorAll('.card')]"
HITS = "[...document.querySelectorAll('.hit')]"


@contextmanager
def running(app, lifespan: str = "off") -> Iterator[str]:
    """A server in a thread; yields its address."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(app, lifespan=lifespan))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def service(request, tiny_decoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "my-index"
    encoder = Encoder.load(tiny_decoder)
    with Index.create(path, encoder=encoder) as index:
        index.add(request.module.DOCUMENTS)
    with Service(encoder, path) as service:
        yield service


@pytest.fixture(scope="module")
def address(service):
    with running(create_app(service)) as address:
        yield address


@pytest.fixture(scope="module")
def open_browser():
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(open_browser, address) -> Iterator[Browser]:
    open_browser.screen(1000, 800)
    open_browser.requests.clear()
    open_browser.complaints.clear()
    open_browser.open(address)
    open_browser.wait("document.getElementById('index').textContent")
    yield open_browser
    assert all(request.startswith((address, "data:")) for request in open_browser.requests), "asked elsewhere"
    assert not [line for line in open_browser.complaints if "the server responded with a status of 4" not in line]


def ids(page: Browser) -> list[str]:
    return page.run(f"{CARDS}.map((card) => card.querySelector('.id').textContent)")


def search(page: Browser, text: str) -> None:
    """Type a query as a person would, and wait for its answer."""
    page.run("document.getElementById('query').select()")
    page.type(text)
    page.run("document.getElementById('status').textContent = ''")
    page.press("Enter")
    page.wait("document.getElementById('status').textContent || !document.getElementById('problem').hidden")


def test_the_page_says_what_it_searches_and_waits_for_a_query(page):
    assert page.run("document.getElementById('index').textContent") == "my-index · 27 documents"
    assert page.run("document.activeElement.id") == "query"
    assert page.run("document.getElementById('problem').hidden") and ids(page) == []


def test_a_search_shows_marked_passages_scores_and_time(page):
    page.run("document.querySelector('[value=lexical]').click()")
    search(page, "foxes")
    assert ids(page) == ["fox"]
    assert page.run(f"{CARDS}[0].querySelector('h2').textContent") == "Foxes & <b>dogs</b>", "text, not markup"
    assert page.run(f"[...{CARDS}[0].querySelectorAll('mark')].map((mark) => mark.textContent)") == ["fox", "fox"]
    assert float(page.run(f"{CARDS}[0].querySelector('.score').textContent")) > 0
    assert "year 2020" in page.run(f"{CARDS}[0].textContent")
    assert page.run("/^1 hit · server \\d+ ms · network \\d+ ms$/.test(document.getElementById('status').textContent)")
    assert page.run("location.search") == "?q=foxes&mode=lexical"


def test_what_the_server_refuses_is_not_on_the_page(page, monkeypatch):
    """As of a store: dense alone, nothing similar."""
    monkeypatch.setattr(
        "ragvec.serve.status_routes._offers", lambda index: {"map": False, "similar": False, "modes": ["dense"]}
    )
    page.open(page.run("location.origin + '/'"))
    page.wait("document.body.classList.contains('none-similar')")
    assert page.run("document.getElementById('modes').hidden && document.getElementById('map-button').hidden")
    search(page, "apple number 7")
    assert ids(page) and page.run("location.search") == "?q=apple+number+7"
    assert page.run("document.querySelector('form').elements.mode.value") == "dense"
    assert page.run(f"{CARDS}[0].querySelector('.similar').offsetParent === null")


def test_modes_differ_and_the_address_can_be_shared(page, address):
    search(page, "apple number 7")
    orders = [ids(page)]
    for mode in ("dense", "lexical"):
        page.run(f"document.getElementById('status').textContent = ''; document.querySelector('[value={mode}]').click()")
        page.wait("document.getElementById('status').textContent")
        orders.append(ids(page))
    assert orders[2][0] == "apple7" and len({tuple(order) for order in orders}) == 3
    page.open(f"{address}/?q=fox&mode=lexical&where=year+%3D+2020&by=document")
    page.wait(f"{CARDS}.length === 1")
    assert page.run("document.getElementById('where').value") == "year = 2020"
    assert page.run("document.getElementById('grouped').checked") is True


def test_nothing_found_is_said(page):
    page.run("document.querySelector('[value=lexical]').click()")
    search(page, "zebra")
    assert ids(page) == []
    assert page.run("document.getElementById('status').textContent").startswith("Nothing found. Try other words")


def test_a_filter_narrows_and_a_wrong_one_is_explained(page):
    page.run("document.getElementById('where').value = 'year >= 2022'")
    search(page, "apple")
    assert set(ids(page)) == {"apple22", "apple23", "apple24"}
    page.run("document.getElementById('where').value = 'yeer > 1'")
    search(page, "apple")
    page.wait("!document.getElementById('problem').hidden")
    assert "yeer" in page.run("document.getElementById('problem').textContent") and ids(page) == []
    page.run("document.getElementById('where').value = 'year = 1900'")
    search(page, "apple")
    assert page.run("document.getElementById('problem').hidden")
    assert "filter may be too narrow" in page.run("document.getElementById('status').textContent")


def test_more_hits_are_appended(page):
    page.run("document.querySelector('[value=lexical]').click()")
    search(page, "apple")
    assert len(ids(page)) == 10 and "10+ hits" in page.run("document.getElementById('status').textContent")
    page.run("document.getElementById('more').click()")
    page.wait(f"{CARDS}.length === 20")
    page.run("document.getElementById('more').click()")
    page.wait(f"{CARDS}.length === 25")
    assert len(set(ids(page))) == 25 and page.run("document.getElementById('more').hidden")
    assert page.run(f"document.activeElement === {HITS}[20]")


def test_the_keyboard_does_everything(page):
    page.run("document.querySelector('[value=lexical]').click(); document.activeElement.blur()")
    page.press("/")
    assert page.run("document.activeElement.id") == "query" and page.run("document.getElementById('query').value") == ""
    search(page, "서울")
    page.press("ArrowDown")
    assert page.run(f"document.activeElement === {HITS}[0]")
    page.press("Enter")
    page.wait("document.getElementById('document').open")
    assert page.run("document.getElementById('document-title').textContent") == "대한민국"
    assert page.run("[...document.querySelectorAll('dd')].map((one) => one.textContent)") == ["문서/서울 1", "1999", "ko"]
    assert page.run("document.querySelector('.passage mark').textContent") == "서울"
    page.press("Escape")
    page.wait("!document.getElementById('document').open")
    assert page.run(f"document.activeElement === {HITS}[0]"), "the focus returns to the hit"
    page.press("ArrowUp")
    assert page.run("document.activeElement.id") == "query"


def test_back_returns_to_the_search_before(page):
    page.run("document.querySelector('[value=lexical]').click()")
    search(page, "fox")
    search(page, "서울")
    assert ids(page) == ["문서/서울 1"]
    page.run("history.back()")
    page.wait(f"{CARDS}.length === 1 && {CARDS}[0].textContent.includes('brown')")
    assert page.run("document.getElementById('query').value") == "fox"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_all_of_it_readably(page, address, dark, tmp_path):
    page.screen(360, 740, dark=dark, mobile=True)
    page.open(f"{address}/?q=fox")
    page.wait(f"{CARDS}.length")
    assert page.run("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out to the side"
    small = "[...document.querySelectorAll('button, fieldset span')].filter((one) => one.offsetParent && one.offsetHeight < 24)"
    assert page.run(f"{small}.length") == 0, "fingers hit what they aim at"
    luminance = """(color) => {
        const linear = (one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        const part = color.match(/[\\d.]+/g).slice(0, 3).map((one) => linear(one / 255));
        return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2]; }"""
    contrast = f"""(() => {{ const light = {luminance}, paper = light(getComputedStyle(document.body).backgroundColor);
        return ['body', '#status', '.about', '.score', '.hit p'].map((name) => {{
            const ink = light(getComputedStyle(document.querySelector(name)).color);
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); }}); }})()"""
    assert min(page.run(contrast)) >= 4.5, "WCAG AA"
    assert (page.run(f"({luminance})(getComputedStyle(document.body).backgroundColor)") < 0.1) is dark
    page.screenshot(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").stat().st_size > 5000


def test_a_key_is_asked_for_and_used(service, open_browser):
    with running(create_app(service, api_key="sesame")) as address:
        open_browser.open(address)
        open_browser.wait("!document.getElementById('unlock').hidden")
        open_browser.wait("document.getElementById('problem').textContent.includes('asks for its API key')")
        open_browser.run("document.getElementById('key').focus()")
        open_browser.type("sesame")
        open_browser.press("Enter")
        open_browser.wait("document.getElementById('index').textContent && document.getElementById('unlock').hidden")
        open_browser.open(f"{address}/?q=fox")
        open_browser.wait(f"{CARDS}.length")


def test_a_server_without_an_index_says_so(service, open_browser):
    with Service(service.encoder) as bare, running(create_app(bare)) as address:
        open_browser.open(address)
        open_browser.wait("!document.getElementById('problem').hidden")
        assert "ragvec serve -i INDEX" in open_browser.run("document.getElementById('problem').textContent")


def test_the_description_of_the_api_needs_nothing_from_elsewhere(page, address):
    page.requests.clear()
    page.open(f"{address}/docs")
    page.wait("document.querySelectorAll('details').length >= 9")
    text = page.run("document.body.textContent")
    for needed in ("/v1/embeddings", "input_type", "/search", "min_score", "/v1/rerank", "/metrics"):
        assert needed in text


def test_an_answer_is_written_with_its_sources(open_browser, service):
    """Piece by piece, [n] opens the source, and nothing a model writes is more than text."""
    from ragvec.answers import Endpoint
    from ragvec.serve.ask_routes import Asking
    from tests.endpoints import stubbing

    hostile = "<img src=x onerror=alert(1)> **A fox** [1], [1, 7] [9]"
    page = open_browser
    with (
        stubbing(lambda call: call.stream(*hostile)) as stub,
        Asking(Endpoint(stub.url)) as asking,
        running(create_app(service, asking=asking)) as address,
    ):
        page.complaints.clear()
        page.open(address)
        page.wait("!byId('answer').hidden")
        page.run("query.value = 'quick brown fox'; byId('answer').click()")
        page.wait("document.querySelectorAll('#cited li').length")
        shown = page.run("byId('reply-text').textContent")
        assert shown == "<img src=x onerror=alert(1)> **A fox** [1], [1][7] [9]"
        assert page.run("document.querySelectorAll('#reply img').length") == 0
        cites = page.run("[...document.querySelectorAll('#reply-text .cite')].map((one) => one.textContent)")
        assert cites == ["[1]", "[1]"]
        assert page.run("document.querySelector('#cited li').textContent") == "[1] Foxes & <b>dogs</b> (fox)"
        page.wait(f"{CARDS}.length")
        page.run("document.querySelector('#reply-text .cite').click()")
        page.wait("document.getElementById('document').open")
        assert page.run("document.getElementById('document-title').textContent") == "Foxes & <b>dogs</b>"
        page.press("Escape")
        stub.chat = lambda call: call.reply(401, {})
        page.run("byId('answer').click()")
        page.wait("byId('reply-about').textContent.includes('API key')")
        page.run("query.value = 'apple'; form.requestSubmit()")
        page.wait("reply.hidden")
        assert not page.complaints


def test_no_answers_without_a_language_model(page):
    assert page.run("document.getElementById('answer').hidden && document.getElementById('reply').hidden")
