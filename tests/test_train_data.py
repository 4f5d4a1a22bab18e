"""Training data in every format people have, and bad rows named by file and line."""

import gzip
import json

import numpy as np
import pytest
import zstandard

from ragvec.encoder import EncoderSettings
from ragvec.errors import RagvecError
from ragvec.train.data import Example, Text, read_examples, read_texts, split_validation
from ragvec.train.data.hub import dataset_files
from ragvec.train.data.teacher import read_teacher
from ragvec.train.recipe import make_recipe

TEXTS = ["first, with a comma", "두 번째", 'third "quoted"']


def recipe(objective: str = "mntp", **keys):
    return make_recipe(objective, {"output_dir": "out", **keys})[0]


def settings(**keys) -> EncoderSettings:
    """Of the encoder that a recipe with these keys ends in."""
    named = {"query_instruction": keys.get("instruction"), "document_instruction": keys.get("document_instruction")}
    return EncoderSettings().override(**named)


def write_as(folder, kind: str):
    rows = [{"text": text} for text in TEXTS]
    path = folder / f"data.{kind}"
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    content = {
        "json": json.dumps(rows, ensure_ascii=False),
        "jsonl": lines,
        "csv": "text\n" + "\n".join(quoted) + "\n",
        "tsv": "id\ttext\n" + "".join(f"{number}\t{text}\n" for number, text in enumerate(quoted)),
        "txt": "\n\n".join(TEXTS) + "\n",
    }
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": TEXTS}), path)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif kind == "jsonl.zst":
        path.write_bytes(zstandard.compress(lines.encode()))
    else:
        path.write_text(content[kind], encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "jsonl.gz", "jsonl.zst", "csv", "tsv", "txt", "parquet"])
def test_texts_in_every_format(kind, tmp_path):
    path = write_as(tmp_path, kind)
    assert read_texts(recipe(), [str(path)]) == [Text(text, "data") for text in TEXTS]


def test_a_folder_and_several_files_in_their_order(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b.txt").write_text("two\n")
    (tmp_path / "set" / "a.txt").write_text("one\n")
    (tmp_path / "c.jsonl").write_text('{"text": "three", "source": "wiki"}\n{"text": "  "}\n{"content": "four"}\n')
    found = read_texts(recipe(), [str(tmp_path / "set"), str(tmp_path / "c.jsonl")])
    assert found == [Text("one", "a"), Text("two", "b"), Text("three", "wiki"), Text("four", "c")]
    assert read_texts(recipe(max_train_samples=2), [str(tmp_path / "set"), str(tmp_path / "c.jsonl")]) == found[:2]


def test_a_field_by_name(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "no", "abstract": "yes"}\n')
    assert read_texts(recipe(text_field="abstract"), [str(tmp_path / "c.jsonl")])[0].text == "yes"
    with pytest.raises(RagvecError, match=r"c.jsonl, line 1: no text field \(looked for summary; fields seen: text, abstract"):
        read_texts(recipe(text_field="summary"), [str(tmp_path / "c.jsonl")])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"text": "a"}\n{"text": 5}\n', "t.jsonl, line 2: field 'text' must be a string, not 5"),
        ("t.jsonl", '{"text": "a"}\n{"text": "b"\n', "t.jsonl, line 2: bad JSON"),
        ("t.json", '[{"text": "a"},\n {"text": "b"}', "t.json, line 2: the array has no end"),
        ("t.json", '[{"text": "a"},\n "b"]', "t.json, line 2: expected an object"),
        ("t.csv", "text,n\na,1\nb\n", "t.csv, line 3: 1 fields where the header has 2"),
        ("t.jsonl", '{"label": "a"}\n', r"t.jsonl, line 1: no text field .*fields seen: label\): set \"text_field\""),
        ("t.txt", "\n \n", "t.txt holds no training text"),
        ("t.xyz", "x", "t.xyz has an unknown suffix"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(RagvecError, match=message):
        read_texts(recipe(), [str(tmp_path / name)])


def test_a_missing_file(tmp_path):
    with pytest.raises(RagvecError, match="none.jsonl does not exist"):
        read_texts(recipe(), [str(tmp_path / "none.jsonl")])


def examples(tmp_path, *rows: dict, **keys) -> list[Example]:
    file = tmp_path / "nq.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_examples(recipe("supervised", **keys), settings(**keys), [str(file)])


def test_pairs_under_every_field_name(tmp_path):
    found = examples(
        tmp_path,
        {"query": "q", "positive": "p", "negative": "n"},
        {"query": "q", "positive": "p", "negatives": ["n", "m", " "]},
        {"anchor": "q", "positive": "p"},
        {"question": "q", "answer": "p"},
        {"query": "q", "pos": "p", "neg": ["n"], "source": "other"},
    )
    assert [(one.query, one.positive) for one in found] == [("q", "p")] * 5
    assert [one.negatives for one in found] == [("n",), ("n", "m"), (), (), ("n",)]
    assert [one.source for one in found] == ["nq", "nq", "nq", "nq", "other"]


def test_pairs_as_other_tools_write_them(tmp_path):
    found = examples(
        tmp_path,
        {"anchor": "q", "positive": "p", "negative_1": "n", "negative_2": "m", "negative_10": "z"},  # sentence-transformers
        {"query_id": 1, "query": "q", "positive_passages": [{"docid": "1", "title": "T", "text": "p"}],
         "negative_passages": [{"docid": "2", "title": "", "text": "n"}, {"docid": "3", "text": "m"}]},  # Tevatron
        {"query": "q", "pos": ["p", "r"], "neg": ["n"]},  # FlagEmbedding
    )  # fmt: skip
    assert [(one.positive, one.negatives) for one in found] == [
        ("p", ("n", "m", "z")), ("T p", ("n", "m")), ("p", ("n",)), ("r", ("n",))
    ]  # fmt: skip


def test_labelled_text_pairs(tmp_path):
    """Those labelled 0 are hard negatives of the same text's positives, and of no use without one."""
    rows = [
        {"sentence1": "q", "sentence2": "no", "label": 0},
        {"sentence1": "q", "sentence2": "p", "label": 1},
        {"sentence1": "q", "sentence2": "never", "label": "0"},
        {"sentence1": "alone", "sentence2": "no", "score": 0.0},
        {"premise": "a", "hypothesis": "b", "label": "entailment"},
        {"premise": "a", "hypothesis": "c", "label": "contradiction"},
    ]
    found = examples(tmp_path, *rows)
    assert [(one.query, one.positive, one.negatives) for one in found] == [("q", "p", ("no", "never")), ("a", "b", ("c",))]
    assert examples(tmp_path, *rows, max_negatives=1)[0].negatives == ("no",)
    assert len(examples(tmp_path, {"query": "q", "positive": "p", "score": 0.31})) == 1
    with pytest.raises(
        RagvecError, match=r"line 1: label 3.8 is neither 1 \(the texts belong together\) nor 0: make it one, or set"
    ):
        examples(tmp_path, {"sentence1": "q", "sentence2": "p", "score": 3.8})


def scored(tmp_path, row: dict, **keys) -> Example:
    file = tmp_path / "nq.jsonl"
    file.write_text(json.dumps({"query": "q", "positive": "p", **row}) + "\n")
    return read_examples(recipe("distill", **keys), EncoderSettings(), [str(file)], scored="teacher")[0]


@pytest.mark.parametrize(
    ("row", "scores"),
    [
        ({"negatives": ["n", "m"], "scores": [9, 1, 2.5]}, (9, 1, 2.5)),
        ({"negatives": ["n", " ", "m"], "scores": [9, 1, 5, 2.5]}, (9, 1, 2.5)),  # an empty text goes with its score
        ({"neg": ["n", "m"], "pos_scores": [0.9], "neg_scores": [0.1, 0.2]}, (0.9, 0.1, 0.2)),  # FlagEmbedding
        ({"negative": "n", "label": 3.5}, (0, -3.5)),  # a margin, as sentence-transformers' MarginMSE has it
        ({"negatives": ["n", "m"], "label": [3.5, 1]}, (0, -3.5, -1)),
    ],
)
def test_a_teachers_scores(row, scores, tmp_path):
    found = scored(tmp_path, row)
    assert found.scores == scores and len(found.negatives) == len(scores) - 1
    assert scored(tmp_path, row, max_negatives=1)[-1] == scores[:2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"negative": "n"}, "line 1: no teacher's scores .looked for scores, score, label, labels, or pos_scores"),
        ({"negatives": ["n", "m"], "scores": [1]}, "line 1: 1 scores for a positive and 2 negatives: give one for each"),
        ({"negative": "n", "scores": "high"}, "line 1: field 'scores' must be a number or a list of numbers, not 'high'"),
        ({"positive": ["p", "r"], "negative": "n", "scores": [1, 2]}, "line 1: 2 positives: where scores are learned"),
        ({"scores": [1], "negatives": []}, "nq.jsonl holds no training text"),  # nothing to tell the positive from
    ],
)
def test_scores_that_do_not_belong(row, message, tmp_path):
    with pytest.raises(RagvecError, match=message):
        scored(tmp_path, row)


def graded(tmp_path, content: str, name: str = "sts.jsonl", **keys) -> list[Example]:
    file = tmp_path / name
    file.write_text(content)
    return read_examples(recipe("supervised", loss="cosent", **keys), settings(**keys), [str(file)], scored="graded")


@pytest.mark.parametrize(
    "names", [("sentence1", "sentence2", "score"), ("query", "positive", "label"), ("anchor", "positive", "score")]
)
def test_graded_pairs_under_every_field_name(names, tmp_path):
    rows = [("a", "b", 4.5), ("c", "d", 0), ("a", "d", "2.5")]
    found = graded(tmp_path, "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    assert [(one.query, one.positive, one.negatives, one.scores) for one in found] == [
        ("a", "b", (), (4.5,)), ("c", "d", (), (0.0,)), ("a", "d", (), (2.5,))
    ]  # fmt: skip


def test_graded_candidates_of_one_query(tmp_path):
    row = {"query": "q", "positive": "p", "negatives": ["n", "m"], "scores": [3, 2, 0]}
    assert graded(tmp_path, json.dumps(row))[0].scores == (3, 2, 0)
    with pytest.raises(RagvecError, match="line 1: 2 scores for a positive and 2 negatives: give one for each"):
        graded(tmp_path, json.dumps({**row, "scores": [3, 2]}))  # margins do not compare over queries


def test_an_sts_table_where_quotes_are_characters_and_a_tsv_where_they_enclose(tmp_path):
    found = graded(tmp_path, 'score\tsentence1\tsentence2\n5.0\t"What?" he said\tb "c"\n1.0\t"open\td\n', "sts.tsv")
    assert [(one.query, one.positive, one.scores) for one in found] == [
        ('"What?" he said', 'b "c"', (5.0,)), ('"open', "d", (1.0,))
    ]  # fmt: skip
    found = graded(tmp_path, 'score\tsentence1\tsentence2\n5.0\t"a\tb"\t"say ""c"""\n', "sts.tsv")
    assert [(one.query, one.positive) for one in found] == [("a\tb", 'say "c"')]
    with pytest.raises(RagvecError, match="sts.tsv, line 3: 2 fields where the header has 3"):
        graded(tmp_path, "score\tsentence1\tsentence2\n5.0\ta\tb\n5.0\ta\n", "sts.tsv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {},
            r"line 2: no score \(looked for scores, score, label.*seen: sentence1, sentence2\): \"loss\": \"cosent\" needs one",
        ),
        ({"score": None}, "line 2: field 'score' must be a number or a list of numbers, not None"),
        ({"score": "high"}, "line 2: field 'score' must be a number or a list of numbers, not 'high'"),
        ({"score": "nan"}, r"line 2: field 'score' is not finite \('nan'\): remove the row"),
    ],
)
def test_graded_rows_without_a_usable_score_are_named(row, message, tmp_path):
    rows = [{"sentence1": "a", "sentence2": "b", "score": 1}, {"sentence1": "a", "sentence2": "c", **row}]
    with pytest.raises(RagvecError, match=message):
        graded(tmp_path, "\n".join(map(json.dumps, rows)))


def test_instructions_by_data_set_and_on_both_sides_of_symmetric_tasks(tmp_path):
    row = {"query": "q", "positive": "p"}
    keys = {"instruction": "find:", "instructions": {"dup": ["same:", "equal:"]}, "symmetric": ["dup"]}
    found = examples(tmp_path, row, {**row, "source": "dup"}, {**row, "source": "dup"}, **keys)
    assert [(one.query_instruction, one.document_instruction) for one in found] == [
        ("find:", ""),
        ("equal:", "equal:"),
        ("same:", "same:"),
    ]


def test_a_recipe_without_an_instruction_reads_what_the_encoder_will_be_searched_with(tmp_path):
    row, own = {"query": "q", "positive": "p"}, EncoderSettings().query_instruction
    (found,) = examples(tmp_path, row)
    assert own and (found.query_instruction, found.document_instruction) == (own, "")
    (found,) = examples(tmp_path, row, instruction="", document_instruction="passage:")
    assert (found.query_instruction, found.document_instruction) == ("", "passage:")
    graded_pairs = {  # two texts of a kind are compared as documents, a query with its document as such
        '{"sentence1": "a", "sentence2": "b", "score": 1}': "", '{"query": "a", "positive": "b", "score": 1}': own
    }  # fmt: skip
    for row, instruction in graded_pairs.items():
        assert graded(tmp_path, row)[0].query_instruction == instruction
    assert graded(tmp_path, next(iter(graded_pairs)), instruction="same:")[0].query_instruction == "same:"


def test_the_e5_mix_has_the_references_instructions(tmp_path):
    (tmp_path / "allnli.jsonl").write_text('{"query": "q", "positive": "p", "negative": "n"}\n' * 2)
    (tmp_path / "nq.jsonl").write_text('{"query": "q", "positive": "p", "negative": "n"}\n')
    found = read_examples(recipe("supervised", dataset_name="E5"), EncoderSettings(), [str(tmp_path)])
    nli = ("Given a premise, retrieve a hypothesis that is entailed by the premise;", "Retrieve semantically similar text;")
    assert [one.query_instruction for one in found] == [
        *nli, "Given a question, retrieve Wikipedia passages that answer the question;"
    ]  # fmt: skip
    assert [one.document_instruction for one in found] == [*nli, ""]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q"}, r"nq.jsonl, line 2: no positive field \(looked for positive, positives, pos,.*; fields seen: query"),
        ({"positive": "p"}, "nq.jsonl, line 2: no query field"),
        ({"query": "q", "positive": " "}, "nq.jsonl, line 2: empty positive: remove the row"),
        ({"query": "", "positive": "p"}, "nq.jsonl, line 2: empty query"),
        ({"query": "q", "positive": "p", "negatives": [1]}, "line 2: field 'negatives' must be a string or a list of strings"),
        ({"query": "q", "pos_id": "1"}, "line 2: pos_id points into a corpus and the row names none"),
        ({"query": "q", "corpus": "none", "pos_id": "1", "neg_ids": []}, "line 2: no corpus folder none"),
    ],
)
def test_bad_pairs_are_named_by_file_and_line(row, message, tmp_path):
    with pytest.raises(RagvecError, match=message):
        examples(tmp_path, {"query": "q", "positive": "p"}, row)


def test_validation_is_a_share_drawn_once_and_for_all():
    training, validation = split_validation(list(range(100)), 7, seed=3)
    assert len(validation) == 7 and sorted(training + validation) == list(range(100)) and training == sorted(training)
    assert split_validation(list(range(100)), 7, seed=3)[1] == validation != split_validation(list(range(100)), 7, seed=4)[1]
    assert split_validation([1, 2], 0, seed=3) == ([1, 2], [])


def teacher(tmp_path, vectors: np.ndarray, **keys):
    (tmp_path / "t.txt").write_text("a\nb\nc\n")
    np.save(tmp_path / "t.npy", vectors)
    return read_teacher(recipe("distill", teacher_vectors=str(tmp_path / "t.npy"), **keys), [str(tmp_path / "t.txt")])


def test_teacher_vectors_match_texts_row_for_row(tmp_path):
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    texts, found = teacher(tmp_path, vectors)
    assert [one.text for one in texts] == ["a", "b", "c"] and np.array_equal(found, vectors)
    texts, found = teacher(tmp_path, vectors, max_train_samples=2)
    assert len(texts) == 2 and np.array_equal(found, vectors[:2])
    with pytest.raises(RagvecError, match=r"shape \(2, 4\), .*t.txt holds 3 texts"):
        teacher(tmp_path, vectors[:2])
    vectors[1, 2] = np.nan
    with pytest.raises(RagvecError, match=r"t.npy: the vector of row 2 is not finite"):
        teacher(tmp_path, vectors)


def test_teacher_files_that_do_not_belong(tmp_path):
    with pytest.raises(RagvecError, match='distill needs "teacher_vectors"'):
        read_teacher(recipe("distill"), ["a.txt"])
    with pytest.raises(RagvecError, match="2 files of texts but 1 of teacher_vectors"):
        read_teacher(recipe("distill", teacher_vectors="t.npy"), ["a.txt", "b.txt"])
    np.save(tmp_path / "t.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "t.txt").write_text("a\n")
    with pytest.raises(RagvecError, match="t.npy is not a readable .npy file"):  # pickles are not opened
        read_teacher(recipe("distill", teacher_vectors=str(tmp_path / "t.npy")), [str(tmp_path / "t.txt")])


def hub_layout(folder, *names: str):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"anchor": [name], "positive": ["p"]}), folder / name)
    return str(folder)


def test_a_data_set_as_the_hub_lays_it_out(tmp_path):
    name = hub_layout(tmp_path, "pair/train-00000-of-00001.parquet", "pair/dev-0.parquet", "triplet/train-0.parquet")
    files = dataset_files(name, "pair", "train")
    assert [one.query for one in read_examples(recipe("supervised"), EncoderSettings(), files)] == [
        "pair/train-00000-of-00001.parquet"
    ]
    assert dataset_files(name, "pair", "validation", optional=True) == []
    with pytest.raises(RagvecError, match=r"has several configurations \(pair, triplet\): name one in \"dataset_config_name\""):
        dataset_files(name, None, "train")
    with pytest.raises(RagvecError, match=r"has no \*\*/pair/validation\*.parquet"):
        dataset_files(name, "pair", "validation")
    with pytest.raises(RagvecError, match="data set no/such is neither in the hub's cache nor within reach"):
        dataset_files("no/such", None, "train")
