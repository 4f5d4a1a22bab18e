"""Losses against their formulas, torch's own functions and the reference's outputs."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from ragvec.train.losses import (
    cosent,
    distillation,
    hard_negative_nll,
    head_cross_entropy,
    likely_false_negatives,
    score_distillation,
    similarity_kl,
)
from tests.conftest import shared


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("scale", [20, 50])
@pytest.mark.parametrize("with_negatives", [0, 1])
def test_hard_negative_nll_equals_the_reference(scale, with_negatives):
    golden = np.load(shared("reference/golden/loss.npz"))
    queries, positives, negatives = (torch.tensor(golden[name], requires_grad=True) for name in "qdn")
    loss = hard_negative_nll(queries, positives, negatives if with_negatives else None, scale=scale)
    loss.backward()
    key = f"scale{scale}_neg{with_negatives}_"
    np.testing.assert_allclose(loss.item(), golden[key + "loss"], atol=1e-5)
    np.testing.assert_allclose(queries.grad, golden[key + "gq"], atol=1e-5)
    np.testing.assert_allclose(positives.grad, golden[key + "gd"], atol=1e-5)


def test_hard_negative_nll_by_hand():
    """Cosines 1 and 0 at scale 2: the loss of each row is log(1 + e^-2)."""
    axes = torch.eye(2)
    assert hard_negative_nll(3 * axes, 5 * axes, None, scale=2).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_excluded_pairs_do_not_count_but_the_own_positive_always_does():
    queries, positives, negatives = random(3, 8), random(3, 8, seed=1), random(2, 8, seed=2)
    excluded = torch.zeros(3, 5, dtype=torch.bool)
    excluded[0, 1] = excluded[0, 4] = excluded[1, 1] = True
    loss = hard_negative_nll(queries, positives, negatives, scale=7, excluded=lambda rows: excluded[rows].clone())
    cosines = normalize(queries, dim=-1) @ normalize(torch.cat([positives, negatives]), dim=-1).T * 7
    rows = [cosines[0, [0, 2, 3]], cosines[1, [1, 0, 2, 3, 4]], cosines[2, [2, 0, 1, 3, 4]]]
    expected = sum(row.logsumexp(0) - row[0] for row in rows) / 3
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("at_once", [11, 36])
def test_a_large_batch_in_parts_equals_torchs_own_loss(at_once, monkeypatch):
    """Two queries at a time, or seven with a last one alone: value and gradients of the plain formula."""
    monkeypatch.setattr("ragvec.train.losses._SCORES", at_once * 2)
    monkeypatch.setattr("ragvec.train.losses._ROWS", 1)
    excluded = torch.rand(7, 11, generator=torch.Generator().manual_seed(3)) < 0.3
    results = []
    for own in (True, False):
        vectors = [random(count, 6, seed=seed) for seed, count in enumerate((7, 7, 4))]
        if own:
            loss = hard_negative_nll(*vectors, scale=9, excluded=lambda rows: excluded[rows].clone())
        else:
            queries, documents = normalize(vectors[0], dim=-1), normalize(torch.cat(vectors[1:]), dim=-1)
            allowed = ~excluded | (torch.arange(7)[:, None] == torch.arange(11))
            loss = cross_entropy((9 * queries @ documents.T).masked_fill(~allowed, -torch.inf), torch.arange(7))
        (2 * loss).backward()
        results.append([loss.detach(), *(one.grad for one in vectors)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    parts = [likely_false_negatives(*vectors, margin=0.1, rows=slice(at, at + 3)) for at in (0, 3, 6)]
    assert torch.equal(torch.cat(parts), likely_false_negatives(*vectors, margin=0.1))


def test_false_negatives_are_those_closer_than_the_positive_by_the_margin():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    positives = torch.tensor([[0.8, 0.6], [0.0, 1.0]])  # cosines 0.8 and 1
    negatives = torch.tensor([[1.0, 0.0], [0.9, math.sqrt(1 - 0.81)]])  # 1 and 0.9 to the first query
    assert likely_false_negatives(queries, positives, negatives, margin=0.15).tolist() == [
        [False, False, True, False],
        [False, False, False, False],
    ]
    assert likely_false_negatives(queries, positives, negatives, margin=0.05)[0].tolist() == [False, False, True, True]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.25, None), (1.0, 3.0), (2.0, 5.0)])
def test_head_cross_entropy_equals_the_plain_one(bias, scale, cap, monkeypatch):
    monkeypatch.setattr("ragvec.train.losses._CHUNK", 7)  # several chunks, the last one incomplete
    labels = torch.arange(20) % 11
    results = []
    for own in (True, False):
        hidden, weight, offset = random(20, 8), random(11, 8, seed=1), random(11, seed=2) if bias else None
        if own:
            loss = head_cross_entropy(hidden, weight, labels, bias=offset, scale=scale, cap=cap)
        else:
            logits = hidden @ weight.T + (0 if offset is None else offset)
            logits = logits * scale
            loss = cross_entropy(logits if cap is None else torch.tanh(logits / cap) * cap, labels)
        (3 * loss).backward()
        results.append([loss.detach(), hidden.grad, weight.grad, *([offset.grad] if bias else [])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_head_cross_entropy_of_a_frozen_head_leaves_it_alone():
    hidden, weight = random(4, 8), random(5, 8).detach()
    head_cross_entropy(hidden, weight, torch.tensor([0, 1, 2, 3])).backward()
    assert hidden.grad is not None and weight.grad is None


def test_nothing_to_predict_is_a_loss_of_zero_with_gradients_of_zero():
    hidden = random(4, 8)
    loss = head_cross_entropy(hidden[:0], random(5, 8), torch.tensor([], dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and not hidden.grad.any()


def test_cosent_by_its_formula():
    """Four pairs, two with equal scores: five of the six comparisons count, and each width is a loss of its own."""
    cosines, scores = random(4, 2), torch.tensor([0.2, 5.0, 0.2, 1.0])
    ordered = [(0, 1), (2, 1), (0, 3), (2, 3), (3, 1)]
    naive = [
        torch.log(1 + sum(torch.exp(3 * (cosines[low, width] - cosines[high, width])) for low, high in ordered))
        for width in (0, 1)
    ]
    loss = cosent(cosines, scores, scale=3.0)
    assert loss.item() == pytest.approx(sum(naive).item() / 2, abs=1e-6)
    assert cosent(cosines[:, 0], 10 * scores - 7, scale=3.0).item() == pytest.approx(naive[0].item(), abs=1e-6)
    (ours,), (theirs,) = (torch.autograd.grad(value, cosines, retain_graph=True) for value in (loss, sum(naive) / 2))
    torch.testing.assert_close(ours, theirs)


def test_cosent_without_an_order_or_in_perfect_order():
    cosines = torch.tensor([0.9, -0.9], requires_grad=True)
    equal = cosent(cosines, torch.ones(2), scale=20.0)
    equal.backward()
    assert equal.item() == 0 and not cosines.grad.any()
    assert cosent(cosines, torch.tensor([1.0, 0.0]), scale=20.0).item() == pytest.approx(0, abs=1e-6)
    assert cosent(cosines, torch.tensor([0.0, 1.0]), scale=200.0).item() == pytest.approx(360)  # no overflow


def test_distillation_terms():
    student, teacher = random(6, 4), random(6, 4, seed=1).detach()
    a, b = normalize(student, dim=-1), normalize(teacher, dim=-1)
    only = {"cosine": 0.0, "mse": 0.0, "kl": 0.0, "temperature": 0.1}
    cosine = distillation(student, teacher, **{**only, "cosine": 2.0})
    assert cosine.item() == pytest.approx(2 * (1 - (a * b).sum(-1)).mean().item(), abs=1e-6)
    mse = distillation(student, teacher, **{**only, "mse": 1.0})
    assert mse.item() == pytest.approx(((a - b) ** 2).sum(-1).mean().item(), abs=1e-6)
    both = distillation(student, teacher, cosine=2.0, mse=1.0, kl=0.0, temperature=0.1)
    assert both.item() == pytest.approx((cosine + mse).item(), abs=1e-6)


def test_similarity_kl_by_its_formula():
    a, b = normalize(random(4, 3), dim=-1), normalize(random(4, 5, seed=1), dim=-1)
    expected = 0.0
    for row in range(4):
        others = [column for column in range(4) if column != row]
        ours = torch.softmax(a[row] @ a[others].T / 0.2, dim=-1)
        theirs = torch.softmax(b[row] @ b[others].T / 0.2, dim=-1)
        expected += (theirs * (theirs.log() - ours.log())).sum() / 4
    assert similarity_kl(a, b, temperature=0.2).item() == pytest.approx(expected.item(), abs=1e-6)
    assert similarity_kl(a, a, temperature=0.2).item() == pytest.approx(0, abs=1e-6)


def test_one_text_has_no_neighbours_to_compare():
    loss = distillation(random(1, 4), random(1, 4, seed=1), cosine=0.0, mse=0.0, kl=1.0, temperature=0.1)
    assert loss.item() == 0


def test_score_distillation_by_hand():
    """Two candidates, then three: the padding of the first query counts nowhere, not in its gradient either."""
    student = torch.tensor([[2.0, 1.0, -torch.inf], [1.0, 0.0, 3.0]], requires_grad=True)
    teacher = torch.tensor([[5.0, 1.0, -torch.inf], [2.0, 1.0, 1.0]])
    mse = score_distillation(student, teacher, mse=2.0, kl=0.0)
    assert mse.item() == pytest.approx(2 * ((1 - 4) ** 2 + ((1 - 1) ** 2 + (-2 - 1) ** 2) / 2) / 2)
    kl = score_distillation(student, teacher, mse=0.0, kl=1.0)
    expected = 0.0
    for row, count in ((0, 2), (1, 3)):
        ours, theirs = (torch.softmax(scores.detach()[row, :count], dim=-1) for scores in (student, teacher))
        expected += (theirs * (theirs.log() - ours.log())).sum().item() / 2
    assert kl.item() == pytest.approx(expected, abs=1e-6)
    (mse + kl).backward()
    assert torch.isfinite(student.grad).all() and student.grad[0, 2] == 0 and student.grad[0, 0] != 0
    assert score_distillation(teacher + 3, teacher, mse=1.0, kl=1.0).item() == pytest.approx(0, abs=1e-6)


def test_a_query_without_negatives_adds_nothing_to_a_score_distillation():
    student = torch.tensor([[2.0, 1.0], [1.0, -torch.inf]], requires_grad=True)
    teacher = torch.tensor([[5.0, 1.0], [2.0, -torch.inf]])
    loss = score_distillation(student, teacher, mse=1.0, kl=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(score_distillation(student[:1], teacher[:1], mse=1.0, kl=1.0).item() / 2)
    assert torch.isfinite(student.grad).all() and not student.grad[1].any()


def test_similarities_are_computed_in_float32_under_autocast():
    """At scale 50 bfloat16 similarities would move the loss by tenths."""
    vectors = [random(16, 64, seed=seed) for seed in range(3)]
    plain = hard_negative_nll(*vectors, scale=50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert hard_negative_nll(*vectors, scale=50).item() == plain.item()
        assert similarity_kl(*vectors[:2], temperature=0.05).item() == pytest.approx(
            similarity_kl(*(v.double() for v in vectors[:2]), temperature=0.05).item(), rel=1e-4
        )
