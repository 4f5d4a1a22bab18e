"""`ragvec search`: its exact output, and what it says when it can't answer."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from ragvec.cli import output
from ragvec.corpus.queries import parse_queries
from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.index import Index
from ragvec.records import Document
from ragvec.retrieve.highlight import snippet
from tests.conftest import REPOSITORY
from tests.test_cli_index import ragvec
from tests.tiny import save_tiny_decoder

CROSS_ENCODER = (
    "can't load the cross-encoder no/such/model"
    if importlib.util.find_spec("sentence_transformers")
    else "rerank with a model needs sentence-transformers"
)
LONG = "filler words " * 40 + "then the 서울 fox appears and " + "more filler " * 40
DOCUMENTS = [
    Document("a", "Women need 46 grams of protein a day.", "Nutrition", {"year": 2020}),
    Document("b", "The quick brown fox jumps over the lazy dog."),
    Document("문서-서울", "서울은 대한민국의 수도이다. 한강이 흐른다.", "대한민국의 수도"),
    Document("long", LONG),
    Document("evil", "red \x1b[31mtext\x07 fox\n\nof\tterror", "Title\x1b]0;x\x07"),
]


@pytest.fixture(scope="module")
def folder(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "index"
    with Index.create(path, encoder=Encoder.load(tiny_decoder)) as index:
        index.add(DOCUMENTS)
    return path


def test_ndjson_is_exactly_the_documented_hit(folder: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, err = ragvec(capsys, "search", "grams protein", "-i", folder, "--mode", "lexical", "-k", "1")
    score = json.loads(out)["score"]
    assert (code, err) == (0, "")
    assert out == (
        f'{{"rank": 1, "score": {score}, "doc_id": "a", "passage_id": "a", "title": "Nutrition", '
        '"text": "Women need 46 grams of protein a day.", "metadata": {"year": 2020}, '
        f'"weak": false, "bm25": {score}, "lexical_rank": 1}}\n'
    )


def test_modes_differ_and_hybrid_is_the_default(folder: Path, capsys: pytest.CaptureFixture) -> None:
    def scores(*words: str) -> list[float]:
        code, out, _ = ragvec(capsys, "search", "quick fox", "-i", folder, *words)
        assert code == 0
        return [json.loads(line)["score"] for line in out.splitlines()]

    assert scores() == scores("--mode", "hybrid") != scores("--mode", "dense")
    assert len(scores("--mode", "lexical")) == 3 and len(scores("--mode", "dense")) == 5
    assert scores("--mode", "dense") != scores("--mode", "dense", "--instruction", "Find animals:")


def test_a_syllable_is_two_columns_however_it_is_spelled() -> None:
    assert output.text_width("한국") == output.text_width(unicodedata.normalize("NFD", "한국")) == 4


def test_table_aligns_wide_characters_and_neutralises_control_characters(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = ragvec(capsys, "search", "서울 fox", "-i", folder, "--mode", "lexical", "--format", "table")
    lines = out.splitlines()
    assert lines[0] == " #    score  id         title and text"
    assert "\x1b" not in out and "\x07" not in out
    assert all(output.text_width(line) <= 60 for line in lines)
    seoul = next(number for number, line in enumerate(lines) if "문서-서울" in line)
    assert output.text_width(lines[seoul][: lines[seoul].index("대한민국")]) == 24
    assert lines[seoul + 1] == " " * 24 + "서울은 대한민국의 수도이다. 한강이"
    assert lines[seoul + 2] == " " * 24 + "흐른다."
    long = next(number for number, line in enumerate(lines) if " long " in line)
    assert "서울 fox" in lines[long] + lines[long + 1]


def test_terminal_gets_a_table_with_the_words_in_bold(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, out, _ = ragvec(capsys, "search", "foxes dog", "-i", folder, "--mode", "lexical", "-k", "1")
    assert "The quick brown \x1b[1mfox\x1b[0m jumps over the lazy \x1b[1mdog\x1b[0m." in out


def test_nothing_found(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert ragvec(capsys, "search", "zebra", "-i", folder, "--mode", "lexical") == (0, "", "")
    assert ragvec(capsys, "search", "zebra", "-i", folder, "--mode", "lexical", "--format", "table") == (
        0,
        "nothing found\n",
        "",
    )


def test_trec_run_of_a_queries_file(folder: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "protein"}\n\n{"_id": "q2", "text": "lazy dog"}\n')
    words = ["-i", folder, "--mode", "lexical", "--queries", tmp_path / "queries.jsonl"]
    _, out, _ = ragvec(capsys, "search", *words, "--format", "trec")
    rows = [line.split() for line in out.splitlines()]
    assert [[row[0], row[1], row[2], row[3], row[5]] for row in rows] == [
        ["q1", "Q0", "a", "1", "ragvec"],
        ["q2", "Q0", "b", "1", "ragvec"],
    ]
    assert all(float(row[4]) > 0 for row in rows)
    _, out, _ = ragvec(capsys, "search", *words)
    assert [(json.loads(line)["query_id"], json.loads(line)["doc_id"]) for line in out.splitlines()] == [
        ("q1", "a"),
        ("q2", "b"),
    ]
    _, out, _ = ragvec(capsys, "search", *words, "--format", "table")
    assert out.startswith("protein\n #    score  id  title and text\n 1")


def test_queries_on_stdin(folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("protein\n7\tlazy dog\n"))
    _, out, _ = ragvec(capsys, "search", "-", "-i", folder, "--mode", "lexical")
    assert [(json.loads(line)["query_id"], json.loads(line)["doc_id"]) for line in out.splitlines()] == [("1", "a"), ("7", "b")]


@pytest.mark.parametrize("header", ["query_id\ttext", "Query-ID\tQuery\n", "_id\ttext"])
def test_a_header_of_queries_is_no_query(header: str) -> None:
    assert list(parse_queries([header, "q1\tprotein", "id\ttext"], "f")) == [("q1", "protein"), ("id", "text")]
    assert list(parse_queries(["id\tof what?", "q1\ttext"], "f")) == [("id", "of what?"), ("q1", "text")]


def test_a_header_may_name_other_columns_too() -> None:
    rows = ["lang\tQuery\tqid\n", "en\tprotein\tq1\n", "\tlazy dog\tq2\n"]
    assert list(parse_queries(rows, "f")) == [("q1", "protein"), ("q2", "lazy dog")]
    with pytest.raises(RagvecError, match="^f, line 2: no text for the query id 'q1': complete it, or take it out$"):
        list(parse_queries(["qid\tlang\tquery", "q1\ten"], "f"))


@pytest.mark.parametrize("second", ["q1\tother", '{"_id": "q1", "text": "other"}'])
def test_an_id_of_two_queries_is_told_with_both_lines(second: str) -> None:
    with pytest.raises(RagvecError, match="^f, line 4: line 2 has the query id 'q1', too: give each its own$"):
        list(parse_queries(["qid\tquery", "q1\tone", "", second], "f"))


def test_queries_of_a_csv_are_read_by_its_columns() -> None:
    rows = ["lang,Query,qid\n", 'en,"protein, and\n', 'more",q1\n', "\n", ",lazy dog,\n"]
    assert list(parse_queries(rows, "f.csv")) == [("q1", "protein, and\nmore"), ("5", "lazy dog")]
    assert list(parse_queries(["text;note\n", "세 시;x\n"], "f.CSV")) == [("2", "세 시")]
    for lines, said in (
        (["id,question", "1,x"], "line 1: no text or query among the columns id, question: name the queries' column so"),
        (["id,text", "1,"], "line 2: no text in the column text: complete it, or take it out"),
        (["text,id", "one,1", "two,1"], "line 3: line 2 has the query id '1', too: give each its own"),
        (["text,id", "one\rtwo,1"], "line 2: not CSV (new-line character seen in unquoted field"),
    ):
        with pytest.raises(RagvecError) as caught:
            list(parse_queries(lines, "f.csv"))
        assert str(caught.value).startswith(f"f.csv, {said}")


def test_queries_with_errors() -> None:
    assert list(parse_queries(['{"id": 3, "query": "x"}', " plain "], "f")) == [("3", "x"), ("2", "plain")]
    for bad in ("{oops", '{"query": ' + "[" * 100_000, '{"query": "x", "n": ' + "1" * 5000 + "}"):
        with pytest.raises(RagvecError, match="f, line 2: not JSON"):
            list(parse_queries(["a", bad], "f"))
    with pytest.raises(RagvecError, match="f, line 1: no text or query among the fields _id, txt"):
        list(parse_queries(['{"_id": 1, "txt": "x"}'], "f"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "-i", "nowhere"], "no index in nowhere: make one with `ragvec index CORPUS -o nowhere`"),
        (["x"], "no index in ragvec-index: make one with `ragvec index CORPUS`"),
        ([" "], "a query is empty: say what to look for"),
        ([], "a query is empty: say what to look for"),
        (["x", "-k", "0"], "k is 0: ask for at least 1 result"),
        (["x", "-k", "-3"], "k is -3: ask for at least 1 result"),
        (["x", "--queries", "missing.txt"], "both a query and --queries missing.txt are given: choose one"),
        (["--queries", "missing.txt"], "can't read queries from missing.txt"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAGVEC_INDEX", raising=False)
    code, out, err = ragvec(capsys, "search", *words)
    failed = message.startswith(("no index", "can't read"))
    assert (code, out, err.count("\n")) == (1 if failed else 2, "", 1)
    assert err.startswith(f"error: {message}")


def test_unknown_mode_is_a_usage_error(folder: Path, capsys: pytest.CaptureFixture) -> None:
    code, _, err = ragvec(capsys, "search", "x", "-i", folder, "--mode", "sparse")
    assert code == 2 and "'hybrid', 'dense', 'lexical'" in err


def test_an_encoder_that_did_not_build_the_index_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = save_tiny_decoder(tmp_path / "other", hidden_size=48)
    capsys.readouterr()
    code, _, err = ragvec(capsys, "search", "x", "-i", folder, "--encoder", other)
    assert code == 1 and err.startswith("error: the index was built with encoder ") and f"--encoder {other}`" in err


def test_damaged_folders(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.sqlite").write_bytes((folder / "index.sqlite").read_bytes()[:3000])
    code, _, err = ragvec(capsys, "search", "x", "-i", tmp_path / "index", "--mode", "lexical")
    assert code == 1 and err.count("\n") == 1 and "is damaged" in err
    (tmp_path / "index" / "index.sqlite").write_bytes(b"")
    code, _, err = ragvec(capsys, "search", "x", "-i", tmp_path / "index", "--mode", "lexical")
    assert code == 1 and err.count("\n") == 1


def test_output_is_utf8_in_any_locale_and_a_closed_pipe_is_quiet(folder: Path) -> None:
    script = "from ragvec.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, "search", "서울", "-i", str(folder), "--mode", "lexical"]
    result = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert json.loads(result.stdout.splitlines()[0].decode())["doc_id"] == "문서-서울"
    assert result.stderr == b""
    shell = f"{sys.executable} -c '{script}' search fox -i {folder} --mode lexical | head -c 1"
    result = subprocess.run(["bash", "-c", shell], capture_output=True, env=environment, check=True)
    assert (result.stdout, result.stderr) == (b"{", b"")


@pytest.mark.parametrize(
    ("text", "width", "lines", "expected"),
    [
        ("one two three four", 9, 2, ["one two", "three fo…"]),
        ("one two", 20, 2, ["one two"]),
        ("가나다라마바사", 5, 2, ["가나", "다라…"]),
        ("e\u0301" * 5, 5, 2, ["e\u0301" * 5]),
        ("", 5, 2, []),
        ("abcdefghij", 4, 2, ["abcd", "efg…"]),
    ],
)
def test_wrap(text: str, width: int, lines: int, expected: list[str]) -> None:
    assert output.wrap(text, width, lines) == expected


def test_snippet_shows_where_the_words_are() -> None:
    assert "서울 fox" in snippet(LONG, "fox 서울", 60)
    assert snippet("short", "fox", 60) == "short"
    assert snippet("word " * 100, "absent", 20).startswith("word")


def test_filter_pages_least_score_and_snippets(folder: Path, capsys: pytest.CaptureFixture) -> None:
    def found(*words: str) -> list[dict]:
        code, out, err = ragvec(capsys, "search", "protein fox 서울", "-i", folder, *words)
        assert (code, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    assert [hit["doc_id"] for hit in found("--where", "year >= 2020")] == ["a"]
    whole = found("--mode", "lexical")
    assert found("--mode", "lexical", "--offset", "2", "-k", "2") == whole[2:4]
    assert found("--mode", "lexical", "--min-score", str(whole[1]["score"] - 1e-5)) == whole[:2]
    hit = next(hit for hit in found("--mode", "lexical", "--snippets") if hit["doc_id"] == "문서-서울")
    assert hit["snippet"] == "서울은 대한민국의 수도이다."
    assert "snippet" not in whole[0]


def test_signs_mean_something_where_a_query_is_typed_and_are_text_elsewhere(
    folder: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    def ids(*words: str) -> list[str]:
        code, out, err = ragvec(capsys, "search", "-i", folder, "--mode", "lexical", *words)
        assert (code, err) == (0, "")
        return [json.loads(line)["doc_id"] for line in out.splitlines()]

    query = "fox -terror"
    (tmp_path / "queries.txt").write_text(f"{query}\n", encoding="utf-8")
    assert sorted(ids(query)) == sorted(ids("--queries", str(tmp_path / "queries.txt"), "--syntax")) == ["b", "long"]
    assert sorted(ids(query, "--plain")) == sorted(ids("--queries", str(tmp_path / "queries.txt"))) == ["b", "evil", "long"]
    assert ids("title:nutritoin~") == ids('"grams of protein" fox') == ["a"]
    code, out, err = ragvec(capsys, "search", '"grams of protein" fox', "-i", folder, "--context", "2000")
    assert (code, err) == (0, "") and "Question: grams of protein fox" in out and "[2] " not in out


def test_weights_groups_diversity_and_reranking_reach_the_retriever(folder: Path, capsys: pytest.CaptureFixture) -> None:
    def ids(*words: str) -> list[str]:
        code, out, err = ragvec(capsys, "search", "the fox", "-i", folder, *words)
        assert (code, err) == (0, "")
        return [json.loads(line)["doc_id"] for line in out.splitlines()]

    assert ids("--dense-weight", "1") == ids("--mode", "dense")
    assert ids("--fusion", "weighted", "--dense-weight", "1") == ids("--mode", "dense")
    assert sorted(ids("--group-by", "doc_id", "--diversity", "0.5")) == sorted(ids())
    assert sorted(ids("--rerank", "maxsim")) == sorted(ids())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "year >="], "the filter is wrong at column 8: expected a value, found the end; in: year >="),
        (
            ["--where", "yaer = 1"],
            "the filter is wrong at column 1: no field yaer; there are year, doc_id, passage_id, title, text",
        ),
        (["--offset", "-1"], "offset is -1"),
        (["--diversity", "2"], "diversity is 2.0: choose from 0 to 1"),
        (["--rerank", "no/such/model", "--mode", "lexical"], CROSS_ENCODER),
    ],
)
def test_wrong_options_are_one_line(folder: Path, capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    code, out, err = ragvec(capsys, "search", "fox", "-i", folder, "-e", "is/not/loaded", *words)
    assert (code, out, err.count("\n")) == (1 if message == CROSS_ENCODER else 2, "", 1)
    assert err.startswith(f"error: {message}")
