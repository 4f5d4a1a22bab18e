"""MTEB over ragvec, offline: local tasks of four kinds, and the instructions of the published evaluation."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

mteb = pytest.importorskip("mteb")
if not hasattr(mteb, "evaluate"):
    pytest.skip("mteb is older than 2", allow_module_level=True)

from datasets import Dataset, DatasetDict  # noqa: E402
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS  # noqa: E402
from mteb.models.abs_encoder import get_prompt_name  # noqa: E402
from mteb.models.models_protocols import EncoderProtocol, SearchProtocol  # noqa: E402
from mteb.models.search_wrappers import SearchEncoderWrapper  # noqa: E402
from mteb.types import PromptType  # noqa: E402

from ragvec.cli.main import main  # noqa: E402
from ragvec.encoder import Encoder  # noqa: E402
from ragvec.errors import RagvecError  # noqa: E402
from ragvec.evaluate import evaluate  # noqa: E402
from ragvec.integrations.mteb import MtebModel, evaluate_mteb  # noqa: E402
from ragvec.integrations.mteb_tasks import find_tasks, split_names  # noqa: E402
from tests.conftest import REPOSITORY  # noqa: E402
from tests.layouts import save_layout  # noqa: E402
from tests.test_sources import make_adapter, put_in_cache  # noqa: E402
from tests.tiny import save_tiny_decoder  # noqa: E402

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
    assert model.mteb_model_meta.revision == f"{encoder.fingerprint[:16]}-float32"


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


class LocalConversations(LocalRetrieval):
    """Queries that are conversations."""

    metadata = metadata("LocalConversations", "Retrieval", "ndcg_at_10")

    def load_data(self, **_):
        super().load_data()
        turns = [{"role": "user", "content": "capitals"}, {"role": "assistant", "content": "of what?"}]
        texts = [*([{"role": "user", "content": text}] for text in QUERIES.values()), turns]
        split = self.dataset["default"]["test"]
        split["queries"] = Dataset.from_list([{"id": f"q{n}", "text": text} for n, text in enumerate(texts, 1)])


class LocalInstructed(LocalRetrieval):
    """Queries with an instruction of their own, as InstructIR and FollowIR have them."""

    metadata = metadata("LocalInstructed", "InstructionRetrieval", "ndcg_at_10")

    def load_data(self, **_):
        super().load_data()
        rows = [{"id": name, "text": text, "instruction": "Only facts count."} for name, text in QUERIES.items()]
        self.dataset["default"]["test"]["queries"] = Dataset.from_list(rows)


class EncodesAlone:
    """The same encoder without its index: MTEB's own search prepares the texts and ranks."""

    def __init__(self, model: MtebModel) -> None:
        self.mteb_model_meta, self.encode = model.mteb_model_meta, model.encode
        self.similarity, self.similarity_pairwise = model.similarity, model.similarity_pairwise


PROMPTS = {
    "query": "q: ",
    "document": "title: none | text: ",
    "Reranking": "both: ",
    "Retrieval-document": "d: ",
    "STS": "s: ",
}


@pytest.fixture(scope="module")
def prompted(tmp_path_factory) -> Path:
    """A sentence-transformers folder with a place for titles, and prompts for tasks."""
    folder = save_layout("embeddinggemma", tmp_path_factory.mktemp("layouts") / "gemma")
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": PROMPTS}))
    return folder


@pytest.fixture(params=["plain", "prompts"])
def either(request, encoder, prompted) -> Encoder:
    return encoder if request.param == "plain" else Encoder.load(prompted, dtype="float32", device="cpu")


def searched(task, *models) -> list[dict[str, dict[str, float]]]:
    """What each model finds for a task's queries."""
    task.load_data()
    split, runs = task.dataset["default"]["test"], []
    about = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}, "num_proc": None}
    for model in models:
        model.index(split["corpus"], **about)
        runs.append(model.search(split["queries"], top_k=3, top_ranked=split["top_ranked"], **about))
    return runs


def assert_same(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]) -> None:
    assert ours.keys() == theirs.keys()
    for name, found in ours.items():
        assert found == pytest.approx(theirs[name], abs=1e-3), name  # an index keeps float16


@pytest.mark.parametrize("kind", [LocalRetrieval, LocalReranking, LocalConversations, LocalInstructed])
def test_titles_instructions_and_conversations_are_read_as_mtebs_own_search_hands_them_over(kind, either):
    ours = MtebModel(encoder=either)
    assert_same(*searched(kind(), ours, SearchEncoderWrapper(EncodesAlone(ours))))


@pytest.mark.parametrize("kind", [LocalRetrieval, LocalReranking, LocalInstructed])
def test_what_is_found_is_what_mtebs_wrapper_of_sentence_transformers_finds(kind, prompted):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    theirs = library.SentenceTransformer(str(prompted), device="cpu", local_files_only=True)
    ours = MtebModel(encoder=Encoder.load(prompted, dtype="float32", device="cpu"))
    assert_same(*searched(kind(), ours, SearchEncoderWrapper(SentenceTransformerEncoderWrapper(theirs))))


def test_prompts_for_tasks_are_taken_by_name_as_mtebs_encoders_take_them(prompted):
    model = MtebModel(encoder=Encoder.load(prompted, dtype="float32", device="cpu"))
    for task in (LocalRetrieval, LocalReranking, LocalSTS, LocalInstructed):
        for kind in (PromptType.query, PromptType.document, None):
            name = get_prompt_name(PROMPTS, task.metadata, kind)
            theirs = "" if name is None else PROMPTS[name].replace("title: none", "title: {title|none}")
            assert model.task_instruction(task.metadata, kind) == theirs, (task, kind)


def test_search_by_words_does_not_rerank(encoder):
    with pytest.raises(RagvecError, match="LocalReranking ranks given documents, which search by words does not: set `mode`"):
        measured(LocalReranking(), encoder, mode="lexical")


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
    def model(own: str, attention: str = "bidirectional", given: str | None = None) -> MtebModel:
        settings = replace(encoder.settings, query_instruction=own, attention=attention)
        return MtebModel(encoder=SimpleNamespace(settings=settings, found=None), instruction=given)

    def instructions(model: MtebModel) -> list[str]:
        return [model.task_instruction(LocalRetrieval.metadata, kind) for kind in (PromptType.query, PromptType.document, None)]

    assert instructions(model("")) == ["", "", ""]
    assert instructions(model("", given="mine:")) == ["mine:", "", "mine:"]
    assert instructions(model("Find:")) == ["Find the answer:", "", "Find the answer:"]
    assert instructions(model("query: ", "unchanged")) == ["query: ", "", ""], "as sentence-transformers has its prompts"


def test_an_unknown_task_is_refused(encoder):
    with pytest.raises(RagvecError, match=r"no task or benchmark 'SciFakt' \(did you mean 'SciFact'\?\)"):
        list(evaluate_mteb(["SciFakt"], encoder))
    with pytest.raises(RagvecError, match="name some"):
        list(evaluate_mteb([], encoder))


def test_names_are_joined_by_commas_and_a_benchmark_is_all_its_tasks():
    assert split_names(["SciFact,NFCorpus, STS12", "MTEB(eng, v1),KorSTS"]) == [
        "SciFact", "NFCorpus", "STS12", "MTEB(eng, v1)", "KorSTS",
    ]  # fmt: skip
    tasks = {task.metadata.name: task for task in find_tasks(["MTEB(eng, v1)"])}
    assert len(tasks) == 56
    assert (tasks["MSMARCO"].eval_splits, tasks["STS17"].hf_subsets) == (["dev"], ["en-en"]), "as the leaderboard has it"


def test_results_are_kept_and_those_of_another_mode_or_instruction_are_not_taken_for_them(encoder, tmp_path, monkeypatch):
    first = measured(LocalRetrieval(), encoder, results=tmp_path)
    for options in ({"mode": "lexical"}, {"instruction": "find?"}, {"instruction": "find:"}):
        measured(LocalRetrieval(), encoder, results=tmp_path, **options)
    assert len(list(tmp_path.rglob("LocalRetrieval.json"))) == 4
    monkeypatch.setattr(MtebModel, "index", None)  # nothing is encoded again
    assert measured(LocalRetrieval(), encoder, results=tmp_path) == first


PUBLISHED = {
    "princeton-nlp/Sheared-LLaMA-1.3B": ("llama", "<s>", ""),
    "meta-llama/Llama-2-7b-chat-hf": ("llama", "<s>[INST] ", " [/INST]"),
    "mistralai/Mistral-7B-Instruct-v0.2": ("mistral", "<s>[INST] ", " [/INST]"),
    "meta-llama/Meta-Llama-3-8B-Instruct": ("llama", "<s><|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
}
NAMES = dict(
    zip(("Sheared-LLaMA", "Llama-2-7b-chat-hf", "Mistral-7B-Instruct-v2", "Meta-Llama-3-8B-Instruct"), PUBLISHED, strict=True)
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """A hub cache with tiny stand-ins under the published names: bases and both stages' adapters."""
    home = tmp_path_factory.mktemp("hub")
    for name, base in NAMES.items():
        decoder = save_tiny_decoder(home / name, PUBLISHED[base][0])
        put_in_cache(home, base, decoder)
        for seed, stage in enumerate(("mntp", "mntp-supervised", "mntp-unsup-simcse")):
            adapter = make_adapter(decoder, home / f"{name}-{stage}", base_name=base, seed=seed)
            put_in_cache(home, f"McGill-NLP/LLM2Vec-{name}-{stage}", adapter)
    return home / "hub"


def documented() -> list[list[str]]:
    """The commands of the documentation that measure a published model."""
    page = (REPOSITORY / "docs" / "evaluation.md").read_text(encoding="utf-8")
    lines = [shlex.split(line) for line in page.splitlines() if line.startswith("ragvec eval --mteb")]
    return [words[1:] for words in lines if any("McGill-NLP" in word for word in words)]


def test_the_documented_commands_measure_as_the_published_evaluation_did(hub, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commands = documented()
    assert len(commands) == 8
    seen = set()
    for words in commands:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--dry-run", "--format", "json", "--device", "cpu"])
        shown = capsys.readouterr()
        assert ended.value.code == 0, shown.err
        model, *tasks = map(json.loads, shown.out.splitlines())
        seen.add(model["source"])
        first_stage = model["source"].removesuffix("-supervised").removesuffix("-unsup-simcse")
        assert model["adapters"] == [first_stage, model["source"]]
        _, front, back = PUBLISHED[model["base_model"]]
        assert model["base_model"] == NAMES[first_stage.removeprefix("McGill-NLP/LLM2Vec-").removesuffix("-mntp")]
        settings = {
            name: model[name] for name in ("attention", "pooling", "max_length", "doc_max_length", "skip_instruction", "dtype")
        }
        assert settings == {
            "attention": "bidirectional", "pooling": "mean", "max_length": 512, "doc_max_length": 400,
            "skip_instruction": True, "dtype": "bfloat16",
        }  # fmt: skip
        found = {task["task"]: task for task in tasks}
        assert len(found) == 56 - 1 + 12, "CQADupstack is twelve"
        for name, task in found.items():
            asked = task.get("query prompt") or task["prompt"]
            assert asked.startswith(front) and asked.endswith(f": …{back}") and len(asked) > len(front + back) + 20, name
            assert task.get("document prompt", f"{front}…{back}") == f"{front}…{back}", name
        claim = "Given a scientific claim, retrieve documents that support or refute the claim:"
        assert found["SciFact"]["query prompt"] == f"{front}{claim} …{back}"
        assert (
            found["SummEval"]["prompt"]
            == f"{front}Given a news summary, retrieve other semantically similar summaries: …{back}"
        )
        assert found["TwitterURLCorpus"]["prompt"].startswith(f"{front}Retrieve tweets that are semantically similar to")
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folder", "--mteb", "SciFact", "--report", "r.md"], "leave DATASET, --report out"),
        (["folder", "--dry-run"], "it goes with --mteb"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["eval", *words])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_data_that_can_not_be_had_is_one_line(tiny_decoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--mteb", "SciFact", "--encoder", str(tiny_decoder), "--cache", str(tmp_path)])
    assert ended.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: MTEB's task SciFact: ") and "mteb/scifact" in error


def test_the_command_prints_a_line_a_task_and_their_mean(encoder, tiny_decoder, tmp_path, capsys, monkeypatch):
    chosen = [LocalRetrieval(), LocalSTS()]
    monkeypatch.setattr("ragvec.integrations.mteb_tasks.find_tasks", lambda names: chosen)  # MTEB has no local ones by name
    scores = [measured(task, encoder) for task in chosen]
    words = ("eval", "--mteb", "both", "--encoder", str(tiny_decoder), "--dtype", "float32", "--cache", str(tmp_path))
    with pytest.raises(SystemExit):
        main([*words, "--format", "table", "--no-baselines"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["LocalRetrieval", "Retrieval", f"{scores[0]:.4f}"],
        ["LocalSTS", "STS", f"{scores[1]:.4f}"],
        ["mean", "of", "2", "tasks", f"{sum(scores) / 2:.4f}"],
    ]


def test_baselines_stand_beside_without_being_asked(encoder, tiny_decoder, tmp_path, capsys, monkeypatch):
    other = save_tiny_decoder(tmp_path / "other", "mistral", seed=3)
    monkeypatch.setattr("ragvec.integrations.mteb_tasks.find_tasks", lambda names: [LocalRetrieval(), LocalSTS()])
    monkeypatch.setattr("ragvec.evaluate.baselines.installed_baseline", lambda: str(other))  # whatever is installed here
    words = ("eval", "--mteb", "both", "--encoder", str(tiny_decoder), "--dtype", "float32", "--cache", str(tmp_path))
    with pytest.raises(SystemExit):
        main([*words, "--format", "json"])
    retrieval, sts = (json.loads(line)["baselines"] for line in capsys.readouterr().out.splitlines())
    words_alone = measured(LocalRetrieval(), encoder, mode="lexical")
    assert retrieval["lexical (BM25)"]["main_score"] == words_alone
    loaded = Encoder.load(other, device="cpu", dtype="float32")
    assert retrieval["other"]["main_score"] == measured(LocalRetrieval(), loaded)
    assert sts == {"other": {"main_score": measured(LocalSTS(), loaded)}}


def test_words_alone_are_searched_without_encoding(encoder, monkeypatch):
    monkeypatch.setattr(Encoder, "encode_counted", None)
    assert measured(LocalRetrieval(), encoder, mode="lexical") > 0
