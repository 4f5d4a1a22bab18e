"""MTEB over ragvec, offline: local tasks of four kinds, and the instructions of the published evaluation."""

import json

import numpy as np
import pytest

mteb = pytest.importorskip("mteb")
if not hasattr(mteb, "evaluate"):
    pytest.skip("mteb is older than 2", allow_module_level=True)

from datasets import Dataset, DatasetDict  # noqa: E402
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol, SearchProtocol  # noqa: E402
from mteb.types import PromptType  # noqa: E402

from ragvec.encoder import Encoder  # noqa: E402
from ragvec.errors import RagvecError  # noqa: E402
from ragvec.evaluate import evaluate  # noqa: E402
from ragvec.integrations.mteb import MtebModel, evaluate_mteb  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of mteb and datasets

DOCUMENTS = {
    "d1": ("Nutrition", "Women need 46 grams of protein a day."),
    "d2": ("", "The quick brown fox jumps over the lazy dog."),
    "d3": ("Capitals", "Seoul is the capital of Korea."),
}
QUERIES = {"q1": "how much protein should a female eat", "q2": "fox"}
QRELS = {"q1": {"d1": 1}, "q2": {"d2": 1}}


def metadata(name: str, kind: str, main: str, prompt=None):
    return mteb.TaskMetadata(
        name=name,
        description="local",
        dataset={"path": "local/none", "revision": "1"},
        type=kind,
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main,
        prompt=prompt,
    )


class LocalRetrieval(AbsTaskRetrieval):
    metadata = metadata("LocalRetrieval", "Retrieval", "ndcg_at_10", {"query": "Find the answer."})

    def load_data(self, **_):
        rows = [{"id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()]
        asked = [{"id": name, "text": text} for name, text in QUERIES.items()]
        split = {
            "corpus": Dataset.from_list(rows),
            "queries": Dataset.from_list(asked),
            "relevant_docs": QRELS,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class LocalReranking(LocalRetrieval):
    metadata = metadata("LocalReranking", "Reranking", "map_at_1000")

    def load_data(self, **_):
        super().load_data()
        self.dataset["default"]["test"]["top_ranked"] = {"q1": ["d1", "d3"], "q2": ["d3", "d2"]}


class LocalSTS(AbsTaskSTS):
    metadata = metadata("LocalSTS", "STS", "cosine_spearman")
    min_score, max_score = 0, 5

    def load_data(self, **_):
        left, right = ["a fox", "a fox", "Seoul", "protein"], ["a fox", "a dog", "capital of Korea", "the lazy dog"]
        rows = {"sentence1": left, "sentence2": right, "score": [5.0, 3.0, 4.0, 0.0]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
        self.data_loaded = True


class LocalClassification(AbsTaskClassification):
    metadata = metadata("LocalClassification", "Classification", "accuracy")

    def load_data(self, **_):
        random = np.random.default_rng(0)
        words = {0: "fox dog jumps lazy", 1: "protein women grams day"}

        def rows(count: int) -> dict:
            labels = [number % 2 for number in range(count)]
            return {"text": [" ".join(random.permutation(words[label].split())) for label in labels], "label": labels}

        self.dataset = DatasetDict({"train": Dataset.from_dict(rows(40)), "test": Dataset.from_dict(rows(20))})
        self.data_loaded = True


@pytest.fixture(scope="module")
def encoder(tiny_decoder) -> Encoder:
    return Encoder.load(tiny_decoder, dtype="float32")


def measured(task, encoder, **options) -> float:
    (found,) = evaluate_mteb([task], encoder, **options)
    assert found.dataset == task.metadata.name
    return found.figures["main_score"]


def test_it_is_both_of_mtebs_protocols(encoder):
    model = MtebModel(encoder=encoder)
    assert isinstance(model, EncoderProtocol) and isinstance(model, SearchProtocol)
    assert model.mteb_model_meta.revision == encoder.fingerprint


def test_retrieval_goes_through_the_index_and_gives_ragvec_evals_figure(encoder, tmp_path):
    rows = [{"_id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n")
    for mode in ("dense", "hybrid", "lexical"):
        ours = evaluate(tmp_path, encoder, mode=mode, instruction="Find the answer:").figures["nDCG@10"]
        assert measured(LocalRetrieval(), encoder, mode=mode) == pytest.approx(ours, abs=1e-4)


def test_reranking_looks_at_the_given_documents_alone(encoder):
    model = MtebModel(encoder=encoder)
    task = LocalReranking()
    task.load_data()
    split = task.dataset["default"]["test"]
    about = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}, "num_proc": None}
    model.index(split["corpus"], **about)
    run = model.search(split["queries"], top_k=10, top_ranked=split["top_ranked"], **about)
    assert {name: set(found) for name, found in run.items()} == {"q1": {"d1", "d3"}, "q2": {"d2", "d3"}}
    model.close()
    with pytest.raises(RagvecError, match="no corpus to search"):
        model.search(split["queries"], top_k=10, **about)
    assert 0 < measured(LocalReranking(), encoder) <= 1


def test_similarity_and_classification_give_ragvec_evals_figures(encoder, tmp_path):
    sts = LocalSTS()
    sts.load_data()
    rows = zip(*(sts.dataset["test"][name] for name in ("score", "sentence1", "sentence2")), strict=True)
    path = tmp_path / "sts.tsv"
    path.write_text("score\tsentence1\tsentence2\n" + "".join(f"{s}\t{a}\t{b}\n" for s, a, b in rows))
    instruction = MtebModel(encoder=encoder).task_instruction(sts.metadata)
    assert instruction == "Retrieve semantically similar text:"
    ours = evaluate(path, encoder, instruction=instruction).figures["spearman"]
    assert measured(LocalSTS(), encoder) == pytest.approx(ours, abs=1e-6)
    task = LocalClassification()
    task.load_data()
    for split in ("train", "test"):
        labelled = zip(task.dataset[split]["label"], task.dataset[split]["text"], strict=True)
        (tmp_path / f"c.{split}.tsv").write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in labelled))
    ours = evaluate(tmp_path / "c.test.tsv", encoder, instruction="Classify user passages:").figures["accuracy"]
    assert measured(task, encoder) == pytest.approx(ours, abs=1e-9)


@pytest.mark.parametrize(
    ("task", "prompt_type", "instruction"),
    [
        ("SciFact", PromptType.query, "Given a scientific claim, retrieve documents that support or refute the claim:"),
        ("SciFact", PromptType.document, ""),
        ("QuoraRetrieval", PromptType.document, ""),
        ("CQADupstackTexRetrieval", PromptType.query, "Given a question, retrieve detailed question descriptions from "
         "Stackexchange that are duplicates to the given question:"),
        ("STS16", None, "Retrieve semantically similar text:"),
        ("STSBenchmark", None, "Retrieve semantically similar text:"),
        ("Banking77Classification", None, "Given a online banking query, find the corresponding intents:"),
        ("EmotionClassification", None, "Classify the emotion expressed in the given Twitter message into one of the six "
         "emotions: anger, fear, joy, love, sadness, and surprise:"),
    ],
)  # fmt: skip
def test_tasks_carry_the_published_evaluations_instructions(encoder, task, prompt_type, instruction):
    assert MtebModel(encoder=encoder).task_instruction(mteb.get_task(task).metadata, prompt_type) == instruction


def test_an_encoder_trained_without_instructions_gets_none_unless_told(encoder):
    from types import SimpleNamespace

    plain = MtebModel(encoder=SimpleNamespace(settings=SimpleNamespace(query_instruction="")))
    assert plain.task_instruction(LocalRetrieval.metadata, PromptType.query) == ""
    told = MtebModel(encoder=plain.encoder, instruction="mine:")
    assert told.task_instruction(LocalRetrieval.metadata, PromptType.query) == "mine:"
    assert told.task_instruction(LocalRetrieval.metadata, PromptType.document) == ""


def test_an_unknown_task_is_refused(encoder):
    with pytest.raises(RagvecError, match="MTEB knows no task 'SciFakt'"):
        evaluate_mteb(["SciFakt"], encoder)
