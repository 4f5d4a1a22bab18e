"""The search page shows instead of tells, in a real browser: strength, weak matches, facets, what came before, the map."""

import json
import re
import time
from pathlib import Path

import pytest
from fastapi import Request as HttpRequest

from ragvec.index import Index
from ragvec.index.where import parse_where
from ragvec.records import Document
from ragvec.serve import create_app
from tests.browser import Browser
from tests.test_page import CARDS, HITS, address, ids, open_browser, running, search, service  # noqa: F401 - fixtures

pytestmark = pytest.mark.browser
LONG = "A title that goes on and on, " * 12
HOSTILE = {"lang": "en", "url": "javascript:alert(1)"}
DOCUMENTS = [
    Document("fox", "The quick brown fox jumps over the lazy dog.", "Foxes", {"lang": "en", "url": "https://example.org/fox"}),
    Document("bad", "A fox with a hostile address.", LONG, {**HOSTILE, "path": "a/fox.pdf", "page": 3}),
    Document("여우", "여우는 춥다고 했다.", "여우와 겨울", {"lang": "ko", 'odd "name': "x", "tags": ['a"b', "c\\d"]}),
    *(
        Document(f"apple{n}", f"An apple, number {n}.", f"The apple number {n}", {"lang": "en", "kind": "it"})
        for n in range(20)
    ),
]


@pytest.fixture
def page(open_browser, address):
    open_browser.screen(1000, 800)
    open_browser.open(address)
    open_browser.run("localStorage.clear()")
    open_browser.complaints.clear()
    open_browser.open(address)
    open_browser.wait("document.getElementById('index').textContent")
    yield open_browser
    assert not [line for line in open_browser.complaints if "the server responded with a status of" not in line]


def by_words(page: Browser, text: str) -> None:
    page.run("document.querySelector('[value=lexical]').click()")
    search(page, text)


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)")


def test_the_empty_page_shows_what_there_is_and_a_click_asks(page):
    page.wait("!byId('empty').hidden")
    assert texts(page, "#holds b") == ["lang", "kind"]
    assert texts(page, "#holds div:first-child .chip") == ["en 22", "ko 1"]
    [first, *others] = texts(page, "#examples .chip")
    assert len(others) == 3 and page.run("byId('past').hidden")
    page.run("document.querySelector('#examples .chip').click()")
    page.wait(f"{CARDS}.length")
    assert page.run("query.value") == first and page.run("byId('empty').hidden")


def test_a_hit_shows_its_strength_and_what_it_is_made_of(page):
    search(page, "quick brown fox")
    first = f"{CARDS}.find((one) => one.dataset.passage.startsWith('fox'))"
    said = page.run(f"{first}.querySelector('.about').textContent")
    assert re.search(r"cosine -?\d\.\d\d", said) and re.search(r"BM25 \d+\.\d", said) and "#1 by words" in said
    width = page.run(f"parseFloat({first}.querySelector('.bar i').style.width)")
    score = page.run(f"parseFloat({first}.querySelector('.score').textContent)")
    assert width == pytest.approx(100 * score, abs=0.1)
    assert page.run(f"{first}.querySelector('.bar').getAttribute('aria-label')") == f"match strength {round(width)} %"


def test_weak_matches_are_grey_and_where_all_are_that_is_said(page):
    by_words(page, "quick brown fox jumps lazy")
    assert page.run(f"{CARDS}.map((one) => one.classList.contains('weak'))") == [False, True]
    assert page.run("byId('verdict').hidden") and "weak match" in page.run(f"{CARDS}[1].textContent")
    colours = page.run(f"{HITS}.map((one) => getComputedStyle(one.querySelector('p')).color)")
    assert colours[0] != colours[1]
    by_words(page, "apple zebra giraffe elephant")
    assert page.run("byId('verdict').textContent").startswith("No good match") and not page.run("byId('verdict').hidden")


def test_titles_end_after_two_lines_and_links_lead_to_the_web_alone(page):
    by_words(page, "fox")
    page.screen(360, 740, mobile=True)
    lines = "parseFloat(getComputedStyle(title).lineHeight)"
    clamped = f"[...document.querySelectorAll('.hit h2')].every((title) => title.clientHeight <= 2.2 * {lines})"
    assert page.run(clamped) and page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("[...document.querySelectorAll('.about a')].map((one) => one.href)") == ["https://example.org/fox"]
    assert page.run("document.querySelector('.about a').rel") == "noopener noreferrer"
    bad = page.run(f"{CARDS}.find((one) => one.dataset.passage.startsWith('bad')).querySelector('.about').textContent")
    assert "a/fox.pdf, page 3" in bad and page.run("document.querySelectorAll('a[href^=javascript]').length") == 0


def test_a_value_that_is_clicked_narrows_the_search(page):
    search(page, "apple")
    assert texts(page, "#facets .chip") == ["en 20", "it 20"], "of what is no weak match"
    page.run("[...document.querySelectorAll('#facets .chip')].find((one) => one.textContent.startsWith('it')).click()")
    page.wait("where.value && status_.textContent")
    assert page.run("where.value") == 'kind = "it"' and all(one.startswith("apple") for one in ids(page))
    page.run("where.value = ''")
    by_words(page, "여우")
    page.run("[...document.querySelectorAll('.about .chip')].find((one) => one.textContent.startsWith('lang')).click()")
    page.wait("where.value.includes('lang') && status_.textContent")
    page.run("[...document.querySelectorAll('.about .chip')].find((one) => one.textContent.startsWith('tags')).click()")
    page.wait("where.value.includes('tags') && status_.textContent")
    assert page.run("where.value") == 'lang = "ko" and tags = "a\\"b"' and ids(page) == ["여우"]


def test_every_comparison_is_read_as_it_is_meant(page):
    values = ["a", 'quo"te', "back\\slash\\", "' or 1=1", 3, 2.5, True, "줄\n바꿈"]
    for name in ["lang", "or", "two words", "year-end", "유형"]:
        for value in values:
            text = page.run(f"comparison({json.dumps(name)}, {json.dumps(value)})")
            assert parse_where(text, {name}) == parse_where(f"`{name}` = $value", {name}, {"value": value})


def test_similar_documents_have_an_address_and_leave_the_document_out(page):
    by_words(page, "number 7")
    page.run(f"{CARDS}.find((one) => one.dataset.passage.startsWith('apple7')).querySelector('.similar').click()")
    page.wait("status_.textContent.startsWith('Documents like')")
    found = ids(page)
    assert len(found) == 10 and "apple7" not in found and "“The apple number 7”" in page.run("status_.textContent")
    assert page.run("new URLSearchParams(location.search).get('like')") == "apple7"
    page.open(page.run("location.href"))
    page.wait(f"{CARDS}.length === 10")
    assert ids(page) == found
    page.run("history.back()")
    page.wait("query.value === 'number 7'")


def test_what_was_asked_is_remembered_here_and_forgotten_on_demand(page, address):
    by_words(page, "apple")
    search(page, "fox")
    search(page, "apple")
    page.open(address)
    page.wait("document.querySelectorAll('#past .chip').length")
    assert texts(page, "#past .chip") == ["apple", "fox", "Forget these"]
    page.run("document.querySelector('#past .chip:last-child').click()")
    page.wait("byId('past').hidden")
    assert page.run("Object.keys(localStorage).length") == 0
    page.run('localStorage.setItem(HISTORY, \'{"no": "list"}\'); recall()')
    page.wait("!byId('empty').hidden")


def test_late_answers_are_dropped_and_a_slow_one_shows_that_it_is_awaited(service, open_browser):
    app = create_app(service)
    waits = {"fox": 1.2, "apple": 0.0}

    async def slowly(scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/search":
            import asyncio

            body = await HttpRequest(scope, receive).body()
            await asyncio.sleep(waits[json.loads(body)["query"]])
            sent = [{"type": "http.request", "body": body, "more_body": False}]

            async def again():
                return sent.pop() if sent else await receive()

            return await app(scope, again, send)
        return await app(scope, receive, send)

    with running(slowly) as address:
        page = open_browser
        page.open(address)
        page.wait("document.getElementById('index').textContent")
        search(page, "apple")
        page.run("query.value = 'fox'; form.requestSubmit()")
        assert ids(page) == [], "no hits of an older query stand under a new one"
        assert page.run("byId('wait').hidden")
        page.wait("!byId('wait').hidden")
        page.run("AbortController.prototype.abort = () => {}; query.value = 'apple'; form.requestSubmit()")
        page.wait(f"{CARDS}.length")
        found = ids(page)
        assert page.run("byId('wait').hidden")
        time.sleep(1.3)
        assert ids(page) == found and "fox" not in page.run("location.search")


def test_errors_are_said_in_the_readers_language(service, open_browser):
    page = open_browser
    with running(create_app(service, api_key="sesame")) as address:
        language = "Object.defineProperty(navigator, 'language', {get: () => 'ko-KR'})"
        script = page.send("Page.addScriptToEvaluateOnNewDocument", source=language)["identifier"]
        try:
            page.open(address)
            page.wait("!byId('problem').hidden")
            assert page.run("byId('problem-text').textContent") == "이 서버는 API 키를 요구합니다."
            page.run("byId('key').value = 'wrong'; unlock.requestSubmit()")
            page.wait("byId('problem-text').textContent === 'API 키가 틀렸습니다.'")
            assert page.run("sessionStorage.getItem('ragvec-key')") is None
            page.run("byId('key').value = 'sesame'; unlock.requestSubmit()")
            page.wait("unlock.hidden && !byId('empty').hidden")
            page.run("where.value = 'lang = en'; query.value = 'fox'; form.requestSubmit()")
            page.wait("!byId('problem').hidden")
            assert page.run("byId('problem-text').textContent") == "조건을 읽을 수 없습니다(8번째 글자부터)."
            assert "texts are quoted" in page.run("byId('problem-detail').textContent")
            statuses = [0, 400, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503]
            said = page.run(f"{statuses}.map((status) => explain(new Refusal(status))[0])")
            assert all(re.search("[가-힣]", text) for text in said) and len(set(said)) >= 9
        finally:
            page.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_keys_that_compose_hangul_move_nothing(page):
    by_words(page, "apple")
    page.run("query.focus()")
    event = "new KeyboardEvent('keydown', {key: 'ArrowDown', isComposing: true, bubbles: true, cancelable: true})"
    assert page.run(f"query.dispatchEvent({event})") is True, "the key is left to the input method"
    assert page.run("document.activeElement.id") == "query"
    page.run("query.select()")
    page.send("Input.imeSetComposition", text="여", selectionStart=1, selectionEnd=1)
    page.send("Input.dispatchKeyEvent", type="rawKeyDown", key="Process", code="ArrowDown", windowsVirtualKeyCode=229)
    assert page.run("document.activeElement.id") == "query"
    page.type("여우")
    page.press("Enter")
    page.wait(f"{CARDS}.length === 1")
    assert ids(page) == ["여우"]
    page.press("ArrowDown")
    assert page.run(f"document.activeElement === {HITS}[0]")


def test_the_map_is_drawn_lit_and_opens_documents(service, page, address):
    pytest.importorskip("openTSNE", reason="pip install 'ragvec[map]'")
    from ragvec.map import make_map

    assert page.run("byId('map-button').hidden")
    with Index.open(service.index.path) as index:
        make_map(index)
    page.open(address)
    page.wait("!byId('map-button').hidden")
    by_words(page, "fox")
    page.run("byId('map-button').click()")
    # without animations: the form moves up when something is asked, and the map with it
    page.wait("chart && lit.length === 2 && !frame && !document.getAnimations().length")
    assert page.run("chart.count") == 23 and "23 passages" in page.run("byId('map-note').textContent")
    assert page.run("new Uint32Array(image.data.buffer).filter(Boolean).length") >= 23
    page.run("scrollTo(0, 0)")
    x, y = page.run("""(() => {
        const box = canvas.getBoundingClientRect(), by = box.width / canvas.width;
        return [box.left + across(chart.x[lit[0]]) * by, box.top + down(chart.y[lit[0]]) * by]; })()""")
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait("!tip.hidden && pointed === lit[0]")
    for kind in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    page.wait("dialog.open")
    assert page.run("byId('document-title').textContent") in ("Foxes", LONG.strip(), LONG)
    page.press("Escape")
    page.run("canvas.focus()")
    before = page.run("look.zoom")
    page.run("byId('map-in').click()")
    page.press("ArrowDown")
    assert page.run("look.zoom") > before and page.run("document.activeElement === canvas")
    with Index.open(service.index.path, encoder=service.encoder) as index:
        index.add([Document("later", "A fox that came later.")])
    search(page, "fox")
    page.wait("byId('map-note').textContent.includes('new: 1, gone: 0')")


def test_a_hundred_thousand_points_are_one_image(page):
    """Drawn whole, by typed arrays, once however often it is asked for within a frame."""
    page.run("""(() => {
        const count = 100000, some = new Uint32Array(count).map((_, n) => (n * 2654435761) >>> 0);
        const names = [...Array(24)].map((_, n) => ({ words: [`topic${n}`], x: n, y: n }));
        chart = { count, names, x: Uint16Array.from(some, (n) => n >>> 16), y: Uint16Array.from(some, (n) => n & 65535),
            topics: Uint8Array.from(some, (n) => n % 24) };
        byId('map').hidden = false; })()""")
    page.wait("canvas.width > 300 && !frame")
    page.run("""window.drawn = 0; const put = plot.putImageData.bind(plot);
        plot.putImageData = (...all) => { drawn++; put(...all); }; for (let n = 0; n < 50; n++) zoom(1.01)""")
    page.wait("drawn === 1 && !frame")
    page.run("look = {x: .5, y: .5, zoom: 1}; draw()")
    assert page.run("new Uint32Array(image.data.buffer).filter(Boolean).length") > 60_000
    ms = page.run("""(() => {
        const began = performance.now();
        for (let n = 0; n < 20; n++) draw();
        return (performance.now() - began) / 20; })()""")
    print(f"100,000 points: {ms:.1f} ms a frame")


def test_pictures_for_the_readme_are_small():
    for path in (Path(__file__).resolve().parent.parent / "docs").glob("*.png"):
        assert path.stat().st_size < 150_000, path.name
