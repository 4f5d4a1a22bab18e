"""Training losses. All are computed in float32, whatever the precision of their inputs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, kl_div, log_softmax, mse_loss, normalize, softmax

_CHUNK = 1024  # positions whose logits over the vocabulary exist at once
_SCORES = 1 << 18  # scores of a contrastive batch that exist at once …
_ROWS = 64  # … but those of at least so many queries


class _HeadCrossEntropy(torch.autograd.Function):
    """Cross-entropy over a vocabulary without keeping the logits: gradients are made chunk by chunk on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, scale: float, cap: float | None
    ) -> Tensor:
        count = len(labels)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[2] else None
        compute = weight.to(hidden.dtype)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, count, _CHUNK):
            part = slice(start, start + _CHUNK)
            logits = _logits(hidden[part], compute, bias, scale=scale, cap=cap)
            slope = None if cap is None else 1 - (logits.float() / cap) ** 2
            rows, targets = torch.arange(len(logits), device=logits.device), labels[part]
            log_probabilities = log_softmax(logits, dim=-1, dtype=torch.float32)
            total -= log_probabilities[rows, targets].sum()
            grad = log_probabilities.exp_()
            grad[rows, targets] -= 1
            if slope is not None:
                grad *= slope
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad @ compute
            if grad_weight is not None:
                grad_weight += grad.T @ hidden[part]
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
        for one in (grad_hidden, grad_weight, grad_bias):
            if one is not None:
                one *= scale / count
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return total / count

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if one is None else one * grad for one in ctx.saved_tensors), None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, scale: float, cap: float | None) -> Tensor:
    logits = hidden @ weight.T
    if bias is not None:
        logits += bias.to(logits.dtype)
    if scale != 1.0:
        logits *= scale
    return logits if cap is None else torch.tanh(logits / cap) * cap


def head_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, bias: Tensor | None = None, scale: float = 1.0, cap: float | None = None
) -> Tensor:
    """Mean cross-entropy of a language-model head's predictions, for large vocabularies: memory grows with 1,024 positions.

    hidden   (n, dim), the states that predict; labels (n,), the tokens they should predict
    weight   (vocabulary, dim) of the head, and its bias (vocabulary,)
    scale    multiplies the logits (Cohere, Granite); cap: tanh cap on them (Gemma 2)
    returns  a scalar; 0 if there is nothing to predict
    """
    if not len(labels):
        return hidden.sum() * 0.0
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    with torch.autocast(kind, enabled=False):
        loss: Tensor = _HeadCrossEntropy.apply(hidden, weight, bias, labels, scale, cap)  # type: ignore[no-untyped-call]
    return loss


class _RankingCrossEntropy(torch.autograd.Function):
    """Cross-entropy of each query's own document among all; no scores are kept, gradients are made on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, documents: Tensor, scale: float, excluded: Callable[[slice], Tensor] | None
    ) -> Tensor:
        grad_queries, grad_documents = torch.empty_like(queries), torch.zeros_like(documents)
        total = queries.new_zeros(())
        step = max(_SCORES // len(documents), _ROWS)
        for start in range(0, len(queries), step):
            part = slice(start, min(start + step, len(queries)))
            scores = (queries[part] @ documents.T).mul_(scale)
            rows = torch.arange(part.stop - start, device=scores.device)
            own = rows + start
            if excluded is not None:
                mask = excluded(part)
                mask[rows, own] = False
                scores.masked_fill_(mask, float("-inf"))
            log_probabilities = log_softmax(scores, dim=-1)
            total -= log_probabilities[rows, own].sum()
            grad = log_probabilities.exp_()
            grad[rows, own] -= 1
            grad_queries[part] = grad @ documents
            grad_documents += grad.T @ queries[part]
        for one in (grad_queries, grad_documents):
            one *= scale / len(queries)
        ctx.save_for_backward(grad_queries, grad_documents)
        return total / len(queries)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(one * grad for one in ctx.saved_tensors), None, None


def hard_negative_nll(queries: Tensor, positives: Tensor, negatives: Tensor | None, *, scale: float,
                      excluded: Callable[[slice], Tensor] | None = None) -> Tensor:  # fmt: skip
    """Contrastive loss: each query against every positive and every hard negative of the batch.

    queries    (n, dim); positives (n, dim), row i belongs to query i; negatives (m, dim) or None
    scale      multiplies the cosines (the inverse temperature)
    excluded   for a slice of the queries, (rows, n + m) bool: pairs that are no negatives after all; a query's own positive
               always counts
    returns    mean cross-entropy, a scalar; memory grows with n + m, not with n × (n + m)
    Source: LLM2Vec's HardNegativeNLLLoss.
    """
    with torch.autocast(queries.device.type, enabled=False):
        vectors = (normalize(part.float(), dim=-1) for part in (queries, _documents(positives, negatives)))
        loss: Tensor = _RankingCrossEntropy.apply(*vectors, scale, excluded)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def likely_false_negatives(queries: Tensor, positives: Tensor, negatives: Tensor | None, *, margin: float,
                           rows: slice = slice(None)) -> Tensor:  # fmt: skip
    """Pairs whose cosine is above that of the query and its own positive plus a margin, (rows, n + m) bool."""
    documents = _documents(positives, negatives)
    with torch.autocast(queries.device.type, enabled=False):
        scores = normalize(queries[rows].float(), dim=-1) @ normalize(documents.float(), dim=-1).T
    own = cosine_similarity(queries[rows].float(), positives[rows].float())
    return scores > own[:, None] + margin


def cosent(cosines: Tensor, scores: Tensor, *, scale: float) -> Tensor:
    """Ranking loss on graded pairs: the cosines of two pairs should be in the order of their scores.

    cosines   (n,) or (n, widths), of each pair's two texts; scores (n,), of whatever scale: only their order counts
    scale     multiplies the cosines (the inverse temperature)
    returns   log(1 + sum over pairs i, j with score_i < score_j of exp(scale * (cos_i - cos_j))), the mean over widths
    Source: CoSENT (Su 2022), as sentence-transformers' CoSENTLoss.
    """
    lower = scores[:, None] < scores[None]
    scaled = cosines.float() * scale
    terms = (scaled[:, None] - scaled[None]).flatten(0, 1)
    # filled, not chosen by the mask: how many it chooses would have to be counted, and a GPU waited for
    terms = terms.masked_fill(~lower.reshape(-1, *[1] * (terms.dim() - 1)), float("-inf"))
    return torch.cat([terms.new_zeros(1, *terms.shape[1:]), terms]).logsumexp(dim=0).mean()


def distillation(student: Tensor, teacher: Tensor, *, cosine: float, mse: float, kl: float, temperature: float) -> Tensor:
    """How far a student's vectors are from its teacher's: a weighted sum of three terms.

    student, teacher  (n, dim); for cosine and mse of equal dim, for kl alone they may differ
    cosine            weight of 1 − cosine of each pair; mse: of the squared difference of the normalised vectors, times dim
    kl                weight of KL(teacher ‖ student) between the softmaxes, at `temperature`, of each text's similarities to
                      the batch's other texts
    """
    student, teacher = normalize(student.float(), dim=-1), normalize(teacher.float(), dim=-1)
    loss = student.sum() * 0.0
    if cosine:
        loss = loss + cosine * (1 - cosine_similarity(student, teacher)).mean()
    if mse:
        loss = loss + mse * mse_loss(student, teacher) * student.shape[-1]
    if kl and len(student) > 1:
        loss = loss + kl * similarity_kl(student, teacher, temperature=temperature)
    return loss


def score_distillation(student: Tensor, teacher: Tensor, *, mse: float, kl: float) -> Tensor:
    """How far a student's scores of each query's candidates are from its teacher's: a weighted sum of two terms.

    student, teacher  (n, candidates), the positive first; −inf where a query has fewer candidates
    mse               weight of the squared difference of margins, positive less negative (MarginMSE, Hofstätter et al. 2020)
    kl                weight of KL(teacher ‖ student) between the softmaxes over a query's candidates
    returns           a scalar; a query's negatives share its weight, one without any adds nothing
    """
    there = torch.isfinite(teacher)
    loss = student.masked_fill(~there, 0).sum() * 0.0
    if mse:
        ours, theirs = ((scores[:, :1] - scores[:, 1:]).masked_fill(~there[:, 1:], 0) for scores in (student, teacher))
        loss = loss + mse * ((ours - theirs) ** 2).sum(dim=1).div(there[:, 1:].sum(dim=1).clamp(min=1)).mean()
    if kl:
        ours, theirs = (log_softmax(scores.float(), dim=-1).masked_fill(~there, 0) for scores in (student, teacher))
        loss = loss + kl * (theirs.exp() * (theirs - ours) * there).sum(dim=1).mean()
    return loss


def similarity_kl(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Mean KL divergence between teacher's and student's distributions over the batch's other texts; inputs normalised."""
    with torch.autocast(student.device.type, enabled=False):
        ours, theirs = (_without_diagonal(vectors @ vectors.T / temperature) for vectors in (student, teacher))
    return kl_div(log_softmax(ours, dim=-1), softmax(theirs, dim=-1), reduction="batchmean")


def _without_diagonal(square: Tensor) -> Tensor:
    """(n, n − 1): each row without the text's own. Its own stand n + 1 apart in the flattened square."""
    count = len(square)
    return square.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)


def _documents(positives: Tensor, negatives: Tensor | None) -> Tensor:
    return positives if negatives is None else torch.cat([positives, negatives])
