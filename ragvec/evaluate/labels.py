"""Labelled texts, measured as MTEB does: a linear classifier on few examples, and k-means against the labels."""

import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from ragvec.encoder.protocol import TextEncoder
from ragvec.errors import RagvecError
from ragvec.evaluate.result import Evaluation
from ragvec.evaluate.sets import LabelledSet, find_training_table, read_clustering_sets, read_labelled_set
from ragvec.evaluate.vectors import encode_texts, normalizes_itself

EXPERIMENTS = 10
SAMPLES_PER_LABEL = 8
ITERATIONS = 100
CLUSTERING_BATCH = 500
_SEED = 42  # MTEB's


def evaluate_classification(
    path: Path, encoder: TextEncoder, *, split: str = "test", instruction: str = "", show_progress: bool = False
) -> Evaluation:
    """Accuracy and macro F1 of logistic regression on 8 training texts a label, averaged over 10 draws.

    path    a folder with train.tsv and test.tsv, or NAME.test.tsv beside NAME.train.tsv; columns label, text
    values  accuracy of each test text: the share of the draws whose classifier is right
    Source: MTEB (Muennighoff et al., 2023), AbsTaskClassification; its seed, order of draws and classifier. Vectors are as the
    encoder's own library gives them, so those of LLM2Vec are not normalised.
    """
    import_sklearn()
    train_path, test_path = find_training_table(path, split)
    train, test = read_labelled_set(train_path), read_labelled_set(test_path)
    draws = draw_examples(train.labels)
    chosen = sorted(set().union(*draws))
    encode = partial(encode_texts, encoder, normalize=normalizes_itself(encoder), show=show_progress)
    vectors, cut_train = encode([train.texts[row] for row in chosen], instruction, "training texts")
    tested, cut_test = encode(test.texts, instruction, "test texts")
    figures, right = _classify(draws, train, dict(zip(chosen, vectors, strict=True)), test=test, tested=tested)
    counts = {"labels": len(set(train.labels)), "texts": len(test.texts), "truncated": cut_train + cut_test}
    values = {str(row): {"accuracy": float(share)} for row, share in enumerate(right, 1)}
    return Evaluation(
        dataset=_name(path, test_path), split=split, task="classification", encoder=encoder.source,
        fingerprint=encoder.fingerprint, instruction=instruction, figures=figures, counts=counts, values=values,
    )  # fmt: skip


def evaluate_clustering(path: Path, encoder: TextEncoder, *, instruction: str = "", show_progress: bool = False) -> Evaluation:
    """V-measure of mini-batch k-means with as many clusters as labels, averaged over the sets of a file.

    path    labelled texts (.tsv: label, text), one set; or MTEB's .jsonl, a set a line (sentences, labels)
    values  v_measure of each set
    Source: MTEB (Muennighoff et al., 2023), AbsTaskClustering; its seed and batch size.
    """
    import_sklearn()
    sets = read_clustering_sets(path)
    measured, truncated = [], 0
    for number, one in enumerate(sets, 1):
        label = "texts" if len(sets) == 1 else f"set {number} of {len(sets)}"
        vectors, cut = encode_texts(
            encoder, one.texts, instruction, label, normalize=normalizes_itself(encoder), show=show_progress
        )
        truncated += cut
        measured.append(_v_measure(vectors, one.labels))
    counts = {"sets": len(sets), "texts": sum(len(one.texts) for one in sets), "truncated": truncated}
    values = {str(number): {"v_measure": value} for number, value in enumerate(measured, 1)}
    figures = {"v_measure": float(np.mean(measured))}
    return Evaluation(
        dataset=path.name.split(".")[0], split=None, task="clustering", encoder=encoder.source,
        fingerprint=encoder.fingerprint, instruction=instruction, figures=figures, counts=counts, values=values,
    )  # fmt: skip


def draw_examples(labels: list[str]) -> list[list[int]]:
    """Rows of the training texts of each experiment: 8 a label, in the order MTEB shuffles them in."""
    order = list(range(len(labels)))
    draws = []
    for _ in range(EXPERIMENTS):
        np.random.RandomState(_SEED).shuffle(order)  # each draw shuffles the last one's order anew, from the same seed
        seen: Counter[str] = Counter()
        rows = []
        for row in order:
            if seen[labels[row]] < SAMPLES_PER_LABEL:
                rows.append(row)
                seen[labels[row]] += 1
        draws.append(rows)
    return draws


def _classify(
    draws: list[list[int]], train: LabelledSet, vectors: dict[int, np.ndarray], *, test: LabelledSet, tested: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """The figures over all draws, and for each test text the share of the draws whose classifier is right.

    vectors  of the training texts that are drawn, by row; tested: of the test texts (n, d)
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    labels, f1 = test.labels, []
    right = np.zeros((EXPERIMENTS, len(labels)))
    for number, drawn in enumerate(draws):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are part of the definition
            model = LogisticRegression(max_iter=ITERATIONS, random_state=_SEED)
            predicted = model.fit(np.stack([vectors[row] for row in drawn]), [train.labels[row] for row in drawn]).predict(
                tested
            )
        right[number] = predicted == np.array(labels)
        f1.append(f1_score(labels, predicted, average="macro"))
    return {"accuracy": float(right.mean()), "F1": float(np.mean(f1))}, right.mean(axis=0)


def _v_measure(vectors: np.ndarray, labels: list[str]) -> float:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    clusters = len(set(labels))
    if clusters < 2:
        return 1.0  # one label: every clustering into one is right, as MTEB has it
    model = MiniBatchKMeans(n_clusters=clusters, batch_size=CLUSTERING_BATCH, n_init="auto", random_state=_SEED)
    return float(v_measure_score(labels, model.fit(vectors).labels_))


def _name(path: Path, test_path: Path) -> str:
    return path.resolve().name if path.is_dir() else test_path.name.split(".")[0]


def import_sklearn() -> None:
    """Raises RagvecError if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise RagvecError("classification and clustering need scikit-learn: pip install 'ragvec[eval]'") from error
