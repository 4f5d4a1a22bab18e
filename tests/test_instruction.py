"""Places in an instruction: the text's, with what is read after it, and a title's own; alike wherever texts are read."""

import json
import pickle

import numpy as np
import pytest

from ragvec import Document, Encoder, Index, Passage
from ragvec.corpus import read_documents, to_passages
from ragvec.encoder.instruction import Frame, Instruction, parse, with_title_place
from ragvec.encoder.settings import EncoderSettings
from ragvec.errors import RagvecError, WrongUsage
from ragvec.export import export
from ragvec.ingest import encode_corpus
from ragvec.records import Titled
from ragvec.retrieve.rerank import maxsim
from ragvec.shards import Shards
from ragvec.train.data import read_examples
from ragvec.train.objectives.texts import prompt_table
from ragvec.train.recipe import make_recipe
from tests.layouts import save_layout
from tests.test_cli_encode import ragvec
from tests.test_prompt import builder, text_of

GEMMA = "title: {title|none} | text: {text}"
ICL = "<instruct>Find what answers.\n<query>{text}\n<response>"
FOX = Titled("The fox", "It jumps over the lazy dog.")
AS_TEXT = "title: The fox | text: It jumps over the lazy dog."  # what sentence-transformers' users write themselves


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_layout("embeddinggemma", tmp_path_factory.mktemp("titled") / "embeddinggemma")


@pytest.fixture(scope="module")
def encoder(folder) -> Encoder:
    return Encoder.load(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def wanted(encoder) -> np.ndarray:
    return encoder.encode_documents([AS_TEXT], instruction="")


@pytest.mark.parametrize(
    ("written", "separator", "expected"),
    [
        ("", " ", Instruction(Frame(""))),
        (" find: ", " ", Instruction(Frame("find: "))),
        ("find: ", "", Instruction(Frame("find: "))),
        (ICL, " ", Instruction(Frame(ICL.split("{")[0], "\n<response>"))),
        (GEMMA, " ", Instruction(Frame("title: none | text: "), Frame("title: ", "", " | text: "))),
        ("{title}\n", "", Instruction(Frame("\n"), Frame("", "", "\n"))),
        ("{title}: {text}!", " ", Instruction(Frame(": ", "!"), Frame("", "!", ": "))),
        ("{query} {}", " ", Instruction(Frame("{query} {} "))),
    ],
    ids=["none", "stripped", "as it is", "suffix", "title", "title alone", "both", "other braces"],
)
def test_an_instruction_is_taken_apart(written, separator, expected):
    assert parse(written, separator) == expected


@pytest.mark.parametrize("written", ["{text}{text}", "{text} {title}", "{title} {title}", "{title} {text} {text}"])
def test_places_that_make_no_sense_are_refused(written):
    with pytest.raises(WrongUsage, match=r"must have one \{text\} at most, and one \{title\} at most, before it"):
        parse(written)
    with pytest.raises(RagvecError, match=r"must have one \{text\}"):
        EncoderSettings(document_instruction=written)


def test_a_folders_prompt_that_tells_of_no_title_has_a_place_for_one(encoder):
    assert with_title_place("title: none | text: ") == "title: {title|none} | text: "
    assert with_title_place("subtitle: none") == "subtitle: none"
    assert encoder.settings.document_instruction == encoder.settings.prompts["document"] == "title: {title|none} | text: "


def test_title_and_text_are_one_string_that_knows_its_parts():
    assert FOX == "The fox It jumps over the lazy dog." and FOX.parts == ("The fox", "It jumps over the lazy dog.")
    assert pickle.loads(pickle.dumps(FOX)).parts == FOX.parts
    assert FOX.first(12) == "The fox It j" and FOX.first(12).parts == ("The fox", "It j")
    assert FOX.first(4).parts == ("The", "") and FOX.first(0) == ""
    passage = Passage("1", "1", " a b ", title=" T ")
    assert passage.encoded_text == "T   a b" and passage.encoded_text[passage.encoded_text.text_start :] == "a b"


def test_titles_stand_in_their_place_once():
    build = builder(max_length=64, doc_max_length=60)
    prompts = build.build([FOX, "It jumps", Titled(" ", "It jumps")], GEMMA)
    assert [text_of(ids) for ids in prompts.ids] == [AS_TEXT, *["title: none | text: It jumps"] * 2]
    pooled = [text_of(ids[start:]).strip() for ids, start in zip(prompts.ids, prompts.pool_starts, strict=True)]
    assert pooled == [AS_TEXT.removeprefix("title: "), "It jumps", "It jumps"], "a title is text, and pooled"
    assert text_of(build.build([FOX], "find:").ids[0]) == f"find: {FOX}", "without a place it is the text's beginning"


def test_what_follows_the_text_survives_its_shortening():
    prompts = builder(max_length=80, doc_max_length=24).build(["fox " * 100, "fox"], ICL)
    assert prompts.truncated == [True, False]
    assert [text_of(ids)[-12:] for ids in prompts.ids] == ["x\n<response>"] * 2
    assert len(prompts.ids[0]) - prompts.pool_starts[0] <= 24 + len(builder().build(["\n<response>"]).ids[0])
    with pytest.raises(WrongUsage, match="shorten the instruction"):
        builder().build(["fox"], ICL * 1 + " and more" * 30)


@pytest.mark.parametrize("title", ["The fox", "fox " * 200])
def test_the_text_is_shortened_before_the_title(title):
    prompts = builder(doc_max_length=20).build([Titled(title, "dog " * 100)], GEMMA)
    [told] = [text_of(ids) for ids in prompts.ids]
    assert prompts.truncated == [True] and 24 < len(prompts.ids[0]) <= 32 and told.startswith(f"title: {title[:7]}")
    assert ("dog" in told) == (title == "The fox")


def test_tokens_lie_where_they_do_in_the_whole_text():
    build = builder(max_length=64, doc_max_length=60)
    for instruction in (GEMMA, "find:", ICL):
        spans = build.offsets(instruction, FOX)
        assert len(spans) == len(build.build([FOX], instruction).ids[0])
        seen = {place for start, end in spans for place in range(start, end)}
        assert {str(FOX)[place] for place in range(len(FOX)) if place not in seen} <= {" "}


def test_a_title_stands_in_its_place_wherever_documents_are_encoded(encoder, wanted, tmp_path):
    """encode_documents, an index and its later additions, shards, reranking, gradients, and training alike."""
    document = Document("1", FOX.parts[1], title=FOX.parts[0])
    np.testing.assert_allclose(encoder.encode_documents([FOX, "fox"])[:1], wanted, atol=1e-6)
    np.testing.assert_allclose(encoder([FOX]).detach().numpy(), wanted, atol=1e-6)
    assert np.abs(encoder.encode_documents([str(FOX)]) - wanted).max() > 0.01, "a title in the text is another prompt"
    with Index.create(tmp_path / "index", encoder=encoder) as index:
        index.add([document])
        assert index.search(wanted, 1).scores[0, 0] == pytest.approx(1, abs=1e-3)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"_id": "1", "title": document.title, "text": document.text}), encoding="utf-8")
    encode_corpus(to_passages(read_documents(corpus)), encoder, tmp_path / "shards", dtype="float32")
    [(_, vectors)] = Shards.open(tmp_path / "shards").blocks(8)
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    query = encoder.encode_tokens(["dog"], instruction=encoder.settings.query_instruction)[0].vectors
    read = encoder.encode_tokens([FOX], instruction=encoder.settings.document_instruction)[0].vectors
    assert maxsim(encoder, "dog", [FOX])[0] == pytest.approx((query @ read.T).max(axis=1).mean(), abs=1e-5)
    pairs = tmp_path / "pairs.jsonl"
    titled = {"title": document.title, "text": document.text}
    pairs.write_text(json.dumps({"query": "dog", "positive": titled, "negatives": [titled, "fox"]}), encoding="utf-8")
    recipe, _ = make_recipe("supervised", {"train_file": [str(pairs)], "output_dir": "out"})
    [example] = read_examples(recipe, encoder.settings, [str(pairs)])
    texts = [(example.document_instruction, text) for text in (example.positive, *example.negatives)]
    table, rows = prompt_table(encoder.prompts, texts)
    assert table.ids[rows[0]].tolist() == encoder.prompts.build([AS_TEXT]).ids[0] and rows[0] == rows[1] != rows[2]


def test_commands_put_titles_in_their_place_and_read_instructions_from_files(folder, encoder, wanted, tmp_path, capsys):
    corpus, device = tmp_path / "corpus.jsonl", ["-e", folder, "--device", "cpu", "--dtype", "float32"]
    corpus.write_text(json.dumps({"_id": "1", "title": FOX.parts[0], "text": FOX.parts[1]}), encoding="utf-8")
    assert ragvec(capsys, "encode", corpus, "-o", tmp_path / "s", *device, "--vector-dtype", "float32")[0] == 0
    [(_, vectors)] = Shards.open(tmp_path / "s").blocks(8)
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert ragvec(capsys, "index", corpus, "-o", tmp_path / "i", "-e", folder, "--device", "cpu")[0] == 0
    (tmp_path / "told").write_text(ICL + "\n", encoding="utf-8")
    search = ["search", "fox", "-i", tmp_path / "i", "--device", "cpu", "--dtype", "float32", "--mode", "dense"]
    code, out, _ = ragvec(capsys, *search, "--instruction", f"@{tmp_path / 'told'}")
    asked = encoder.encode_queries([ICL.replace("{text}", "fox")], instruction="")
    assert code == 0 and json.loads(out)["score"] == pytest.approx((asked @ wanted.T).item(), abs=2e-3)
    code, _, err = ragvec(capsys, *search, "--instruction", "@nowhere")
    assert (code, err) == (
        1,
        "error: no instruction can be read from nowhere: [Errno 2] No such file or directory: 'nowhere'\n",
    )
    code, _, err = ragvec(capsys, *search, "--instruction", "{text} {text}")
    assert code == 2 and "must have one {text} at most" in err


def test_an_export_keeps_the_suffix_or_refuses_it(tiny_decoder, tmp_path):
    own = Encoder.load(tiny_decoder, device="cpu", dtype="float32", query_instruction=ICL)
    own.save(tmp_path / "own")
    for to in ("sentence-transformers", "llm2vec"):
        with pytest.raises(RagvecError, match=r"after the text \('\\n<response>'\)|places in an instruction"):
            export(tmp_path / "own", to, tmp_path / to)
        assert not (tmp_path / to).exists()
    export(tmp_path / "own", "ragvec", tmp_path / "again")
    again = Encoder.load(tmp_path / "again", device="cpu", dtype="float32")
    np.testing.assert_allclose(again.encode_queries(["fox"]), own.encode_queries(["fox"]), atol=1e-6)
