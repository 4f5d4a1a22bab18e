"""The scripts that the bundled encoder's Korean is made with: what they read, and what they leave as it was."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import data
from ragvec import Encoder

RECIPE = Path(data.__file__).parent / "recipes" / "bundled"


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(RECIPE), *sys.path])  # its scripts are no package


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("파일(_F)", "파일"),
        ("_File", "File"),
        ("Sa_ve", "Save"),
        ("&Open file_name of folder_name", "Open file_name of folder_name"),
        ("<b>굵은</b>  글씨\n입니다", "굵은 글씨 입니다"),
        ("저장(&S)...", "저장..."),
    ],
)
def test_clean_takes_markup_and_the_marks_of_keys_out(text: str, read: str) -> None:
    import korean

    assert korean.clean(text) == read


@pytest.mark.parametrize(
    ("text", "is_so"), [("셀 삽입", True), ("Insert cells", False), ("LibreOffice Calc 셀", False), ("가", False)]
)
def test_korean_is_what_is_mostly_hangul(text: str, is_so: bool) -> None:
    import korean

    assert korean.is_korean(text) is is_so


def test_blocks_are_aligned_by_id_or_in_order_or_not_at_all(tmp_path: Path) -> None:
    import korean

    def blocks(text: str) -> list[tuple[str, str]]:
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        return korean.read_blocks(tmp_path / "page.html")

    ours = blocks('<script>var x = "셀"</script><h1 id="a">셀 삽입</h1><p>첫째 문단</p>')
    assert ours == [("h1 a", "셀 삽입"), ("p ", "첫째 문단")]
    same, other = blocks('<h1 id="a">Insert cells</h1><p>First</p>'), blocks('<p>First</p><h1 id="a">Insert cells</h1><p>x</p>')
    assert korean.align(ours, same) == [("셀 삽입", "Insert cells"), ("첫째 문단", "First")]
    assert korean.align(ours, other) == [("셀 삽입", "Insert cells"), ("첫째 문단", "")]


def test_a_block_of_four_bits_has_its_low_halves_first() -> None:
    import multilingual

    halves = bytes(number | (15 - number) << 4 for number in range(16))
    found = multilingual.dequantise(multilingual.Reader(np.float16(0.5).tobytes() + halves), 32, 32)
    assert found.tolist() == [[0.5 * (number - 8) for number in (*range(16), *range(15, -1, -1))]]


def test_the_map_is_least_squares_with_a_middle() -> None:
    import prepare_korean

    chance = np.random.default_rng(0)
    teacher, matrix = chance.normal(size=(400, 8)).astype(np.float32) + 3, chance.normal(size=(8, 8)).astype(np.float32)
    middle, found, base = prepare_korean.fit(teacher, teacher @ matrix)
    np.testing.assert_allclose((teacher - middle) @ found + base, teacher @ matrix, atol=2e-2)


@pytest.mark.slow  # it learns merges over the whole vocabulary
def test_more_korean_tokens_leave_other_texts_alone() -> None:
    import extend

    encoder = Encoder.load(None, device="cpu", dtype="float32")
    texts = ["Insert cells into a spreadsheet.", "스프레드시트에 셀을 삽입합니다"]
    before, tokens = encoder.encode_documents(texts), encoder.count_tokens(texts)
    table = encoder.model.get_input_embeddings().weight.detach().clone()
    encoder, parts = extend.extend(encoder, ["스프레드시트에 셀을 삽입합니다 스프레드시트를"] * 5, vocabulary=len(table) + 20)
    after, fewer = encoder.encode_documents(texts), encoder.count_tokens(texts)
    assert 0 < len(parts) <= 20
    assert fewer[0] == tokens[0] and fewer[1] < tokens[1]
    np.testing.assert_allclose(after[0], before[0], atol=1e-5)
    rows = encoder.model.get_input_embeddings().weight
    assert torch.equal(rows[: len(table)], table)
    for token, (left, right) in parts.items():
        torch.testing.assert_close(rows[token], rows[left] + rows[right])


def test_a_page_is_asked_for_by_its_title_unless_others_bear_it_too() -> None:
    from tests.bench.korean import titles

    def page(name: str, title: str) -> dict:
        return {"name": name, "title": title, "paragraphs": [[title, ""], [f"{name} 문단입니다. " * 10, ""]]}

    texts, asked = titles([page("a", "4.5. 이미지 잘라내기"), page("b", "도구 상자"), page("c", "도구 상자")])
    assert list(texts) == ["a", "b", "c"]
    assert texts["a"].startswith("a 문단입니다.")
    assert asked == [("이미지 잘라내기", "a")]


def test_articles_end_where_the_next_chapter_begins(tmp_path: Path) -> None:
    from tests.bench.korean import law

    folder = tmp_path / "python" / "konlpy" / "kolaw"
    folder.mkdir(parents=True)
    text = "헌법\n  제1조 ① 하나이다.\n② 둘이다.\n\n   제2장 권리\n  제2조 셋이다.\n  부칙\n  제1조 넷이다.\n"
    (folder / "constitution.txt").write_text(text, encoding="utf-8")
    articles, asked = law(tmp_path)
    assert articles == {"1": "① 하나이다. ② 둘이다.", "2": "셋이다."}
    assert ("의원은 몇 년 동안 일하나요?", "42") in asked
