"""Grouping texts of mixed lengths into batches of a token budget."""

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Rows grouped so that no batch holds more than batch_tokens tokens, longest texts first.

    Sorting brings equal lengths together, which attention then computes in one call, and meets the largest batch first, so
    that a lack of memory shows at once. A text longer than the budget has a batch of its own.
    """
    assert batch_tokens > 0
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if not batches or lengths[row] > room:
            batches.append([])
            room = batch_tokens
        batches[-1].append(row)
        room -= lengths[row]
    return batches
