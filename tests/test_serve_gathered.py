"""Searches that wait together are done together: each gets its own answer, and hears of its own mistake alone."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from starlette.testclient import TestClient

from ragvec.encoder import Encoder
from ragvec.errors import Unavailable, WrongInput
from ragvec.index import Index
from ragvec.records import Document
from ragvec.serve import Service, create_app
from ragvec.serve.gathered import MOST_TOGETHER, Gathered

KINDS = 5  # of searches that differ in more than their query


class Work:
    """Answers with what was asked, in upper case; notes what was asked together, and begins when it may."""

    def __init__(self) -> None:
        self.together: list[list[str]] = []
        self.go = threading.Event()

    def __call__(self, asked: list[str]) -> list[str]:
        self.together.append(asked)
        assert self.go.wait(60)
        if any("wrong" in one for one in asked):
            raise WrongInput(f"wrong: {asked}")
        if any("gone" in one for one in asked):
            raise Unavailable(f"gone: {asked}")
        return [one.upper() for one in asked]


async def asked_while_busy(work: Work, *questions: tuple[str, str]) -> list[object]:
    """The answers to (key, what is asked) that come while the only thread has another question to answer."""
    with ThreadPoolExecutor(1) as threads:
        gathered = Gathered(threads, work)
        first = asyncio.create_task(gathered.answer("first", "first"))
        while not work.together:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(gathered.answer(*question)) for question in questions]
        await asyncio.sleep(0)  # now all of them wait
        work.go.set()
        answers = await asyncio.gather(*others, return_exceptions=True)
        assert await first == "FIRST"
        assert gathered._waiting == {}
    return answers


def test_what_waits_under_one_key_is_done_together():
    work = Work()
    asked = [("a", "one"), ("b", "two"), ("a", "three")]
    assert asyncio.run(asked_while_busy(work, *asked)) == ["ONE", "TWO", "THREE"]
    assert work.together == [["first"], ["one", "three"], ["two"]]


@pytest.mark.parametrize("count", [MOST_TOGETHER - 1, MOST_TOGETHER, MOST_TOGETHER + 1, 5 * MOST_TOGETHER + 3])
def test_no_more_than_so_many_at_once_and_nobody_is_forgotten(count):
    work = Work()
    asked = [f"q{number}" for number in range(count)]
    assert asyncio.run(asked_while_busy(work, *(("a", one) for one in asked))) == [one.upper() for one in asked]
    assert [one for together in work.together[1:] for one in together] == asked
    assert [len(together) for together in work.together[1:-1]] == [MOST_TOGETHER] * ((count - 1) // MOST_TOGETHER)


def test_a_mistake_is_told_to_who_made_it_alone():
    answers = asyncio.run(asked_while_busy(Work(), ("a", "one"), ("a", "wrong"), ("a", "two")))
    assert answers[::2] == ["ONE", "TWO"]
    assert isinstance(answers[1], WrongInput)
    assert str(answers[1]) == "wrong: ['wrong']"


def test_an_index_that_is_away_is_waited_for_once():
    work = Work()
    answers = asyncio.run(asked_while_busy(work, ("a", "one"), ("a", "gone")))
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    assert work.together == [["first"], ["one", "gone"]]


def test_who_has_left_is_not_searched_for():
    async def leave(work: Work) -> None:
        with ThreadPoolExecutor(1) as threads:
            gathered = Gathered(threads, work)
            first = asyncio.create_task(gathered.answer("first", "first"))
            while not work.together:
                await asyncio.sleep(0.001)
            leaving, staying = (asyncio.create_task(gathered.answer("a", one)) for one in ("leaving", "staying"))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.sleep(0)
            work.go.set()
            assert (await first, await staying) == ("FIRST", "STAYING")

    work = Work()
    asyncio.run(leave(work))
    assert work.together == [["first"], ["staying"]]


def test_searches_that_wait_together_get_what_each_gets_alone(tiny_decoder, tmp_path):
    draw = np.random.default_rng(0)
    words = ["fox", "dog", "cat", "tree", "river", "stone", "light", "water", "plant", "sugar"]
    texts = [" ".join(draw.choice(words, 6)) for _ in range(60)]
    encoder = Encoder.load(tiny_decoder)
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        index.add(Document(str(number), text, metadata={"even": number % 2 == 0}) for number, text in enumerate(texts))
    bodies = [
        {"query": " ".join(draw.choice(words, 2)), "mode": mode} for mode in ("hybrid", "dense", "lexical") for _ in range(6)
    ]
    bodies += [{**body, "where": "even = true", "highlight": True} for body in bodies[:6]]
    bodies += [{"query": '+fox "dog cat"', "syntax": True}, {"query": "fox -dog", "syntax": True}]
    bodies += [{"vector": encoder.encode_queries([text])[0].tolist()} for text in texts[:3]]
    wrong = {"vector": [1.0, 2.0]}
    with Service(encoder, tmp_path / "index") as service:
        client = TestClient(create_app(service))

        def hits(body):
            answer = client.post("/search", json=body)
            if answer.status_code != 200:
                return answer.status_code, answer.json()["error"]["message"], []
            hits = answer.json()["hits"]
            shown = [(hit["rank"], hit["doc_id"], hit["text"], hit.get("highlight")) for hit in hits]
            return 200, shown, [hit["score"] for hit in hits]

        alone = [hits(body) for body in [*bodies, wrong]]
        go = threading.Event()
        busy = [service._threads.submit(go.wait, 60) for _ in range(service._threads._max_workers)]
        with ThreadPoolExecutor(len(alone)) as clients:
            asking = [clients.submit(hits, body) for body in [*bodies, wrong]]
            while service._threads._work_queue.qsize() < KINDS or service.batcher.waiting_tokens:
                time.sleep(0.01)
            time.sleep(0.3)  # now nearly all of them wait for a thread
            go.set()
            found = [one.result() for one in asking]
        assert all(one.result() for one in busy)
    for (status, shown, scores), (status_alone, shown_alone, scores_alone) in zip(found, alone, strict=True):
        assert (status, shown) == (status_alone, shown_alone)
        assert scores == pytest.approx(scores_alone, abs=1e-5)
    assert [status for status, *_ in alone] == [200] * len(bodies) + [400]
    assert "the index holds" in alone[-1][1]
