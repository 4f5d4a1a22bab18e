"""How texts become batches: pieces, masks as the reference draws them, packing, and the order of an epoch."""

import json

import numpy as np
import pytest
import torch

from ragvec.errors import RagvecError
from ragvec.train.data.batches import Batches
from ragvec.train.data.pieces import Pieces, make_pieces
from ragvec.train.objectives.clm import causal_batch
from ragvec.train.objectives.contrastive import no_negatives
from ragvec.train.objectives.masking import IGNORED, choose_mask_token, mask_tokens, special_tokens
from ragvec.train.objectives.mntp import masked_batch
from ragvec.train.objectives.texts import PromptTable, Triple, pair_batch, score_batch
from ragvec.train.recipe import make_recipe
from tests.conftest import shared
from tests.tiny import TEXTS, make_tokenizer


def recipe(**keys):
    return make_recipe("mntp", {"output_dir": "out", **keys})[0]


# --- masks -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "probability"), [("default", 0.2), ("all_mask", 0.8)])
def test_masks_equal_the_references(kind, probability):
    golden = np.load(shared("reference/golden/collators.npz"))
    mask_id = json.loads(shared("reference/golden/collators.json").read_text())["mask_token_id"]
    raw = torch.tensor(golden["raw"])
    special = (raw == 1) | (raw == mask_id)
    torch.manual_seed(0)
    ids, labels = mask_tokens(
        raw, special, probability=probability, mask_id=mask_id, vocabulary=512, all_mask=kind == "all_mask", generator=None
    )
    assert np.array_equal(ids, golden[f"{kind}_ids"]) and np.array_equal(labels, golden[f"{kind}_labels"])


def test_masks_have_the_shares_asked_for():
    raw = torch.arange(100_000) % 300 + 5
    special = raw == 7
    generator = torch.Generator().manual_seed(1)
    ids, labels = mask_tokens(raw, special, probability=0.2, mask_id=4, vocabulary=400, all_mask=False, generator=generator)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], raw[chosen]) and torch.equal(ids[~chosen], raw[~chosen]) and not chosen[special].any()
    assert chosen.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert (ids[chosen] == 4).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (ids[chosen] == raw[chosen]).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_the_three_mask_tokens():
    tokenizer = make_tokenizer()
    assert choose_mask_token(tokenizer, recipe()) == tokenizer.get_vocab()["_"]
    assert choose_mask_token(tokenizer, recipe(mask_token_type="eos")) == tokenizer.eos_token_id == 2
    assert choose_mask_token(tokenizer, recipe(mask_token_type="mask")) == len(tokenizer)
    assert choose_mask_token(tokenizer, recipe(mask_token="~")) == tokenizer.get_vocab()["~"]


def test_a_mask_token_that_is_not_in_the_vocabulary_names_one_that_is():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared("lm/stories260K-hf"))
    with pytest.raises(
        RagvecError, match=r'mask token "_" is not one token of this vocabulary: set "mask_token": "~", which is'
    ):
        choose_mask_token(tokenizer, recipe())
    with pytest.raises(RagvecError, match='mask token "zzz" is not one token'):
        choose_mask_token(make_tokenizer(), recipe(mask_token="zzz"))


def test_special_tokens_and_the_mask_itself_are_never_chosen():
    tokenizer = make_tokenizer()
    table = special_tokens(tokenizer, 65, 384)
    assert table.nonzero()[:, 0].tolist() == [0, 1, 2, 65]


# --- pieces ------------------------------------------------------------------------------------------------------------------


def segments(pieces: Pieces) -> list[list[list[int]]]:
    return [[part.tolist() for part in pieces.segments_of(example)] for example in range(len(pieces.lengths))]


def ids_of(tokenizer, texts) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in texts]


def test_pieces_are_cut_every_so_many_tokens_and_attention_stops_at_the_texts_edge():
    tokenizer = make_tokenizer()
    options = {"max_length": 16, "cross_document": False, "line_by_line": False}
    pieces = make_pieces(tokenizer, TEXTS, **options)
    whole = [token for text in ids_of(tokenizer, TEXTS) for token in text]
    found = segments(pieces)
    assert [token for example in found for part in example for token in part] == whole  # nothing is lost
    assert [len(sum(example, [])) for example in found[:-1]] == [16] * (len(found) - 1)
    edges = np.cumsum([0, *map(len, ids_of(tokenizer, TEXTS))]).tolist()
    starts = np.cumsum([0, *[len(part) for example in found for part in example]]).tolist()
    assert set(edges) <= set(starts)  # no segment reaches over the end of a text


def test_cross_document_reproduces_the_references_chunks():
    tokenizer = make_tokenizer()
    texts = [TEXTS[number % len(TEXTS)] for number in range(1003)]
    pieces = make_pieces(tokenizer, texts, max_length=16, cross_document=True, line_by_line=False)
    expected = []
    for group in (texts[:1000], texts[1000:]):
        joined = [token for text in ids_of(tokenizer, group) for token in text]
        expected += [[joined[start : start + 16]] for start in range(0, len(joined) // 16 * 16, 16)]
    assert segments(pieces) == expected


def test_line_by_line_makes_an_example_of_each_text_cut_to_length():
    tokenizer = make_tokenizer()
    pieces = make_pieces(tokenizer, TEXTS, max_length=9, cross_document=False, line_by_line=True)
    assert segments(pieces) == [[ids[:9]] for ids in ids_of(tokenizer, TEXTS)]


def test_too_little_text_for_one_example():
    with pytest.raises(RagvecError, match=r"1 texts of 2 tokens make no example of 16 tokens: lower max_seq_length"):
        make_pieces(make_tokenizer(), ["fox"], max_length=16, cross_document=True, line_by_line=False)


# --- batches -----------------------------------------------------------------------------------------------------------------


def test_causal_batches_predict_every_token_but_each_segments_first():
    pieces = Pieces(np.arange(10, 20), np.array([0, 6, 10]), np.array([0, 2, 6, 10]))
    batch = causal_batch(pieces)([1, 0], torch.Generator())
    assert batch.ids == [[10, 11], [16, 17, 18, 19], [12, 13, 14, 15]]
    assert batch.predict_from.tolist() == [0, 2, 3, 4, 6, 7, 8] and batch.labels.tolist() == [11, 17, 18, 19, 13, 14, 15]


def test_masked_batches_predict_the_hidden_token_from_the_position_before_it():
    pieces = Pieces(np.arange(10, 40), np.array([0, 15, 30]), np.array([0, 5, 15, 30]))
    special = torch.zeros(50, dtype=torch.bool)
    build = masked_batch(
        pieces, recipe(mlm_probability=0.9, data_collator_type="all_mask"), mask_id=3, special=special, vocabulary=50
    )
    batch = build([0, 1], torch.Generator().manual_seed(0))
    flat = [token for text in batch.ids for token in text]
    assert [len(text) for text in batch.ids] == [5, 10, 15]
    hidden = [place for place, token in enumerate(flat) if token == 3]
    predicted = [place + 1 for place in batch.predict_from.tolist()]
    assert predicted == [place for place in hidden if place not in (0, 5, 15)]  # a text's first token has no position before it
    assert batch.labels.tolist() == [10 + place for place in predicted]


def test_pair_batches_hold_each_text_at_its_place():
    table = PromptTable([np.array([row] * (5 - row)) for row in range(5)], [0, 1, 0, 2, 0], list(range(5)))
    batch = pair_batch(table, [Triple(0, 1, (4, 3)), Triple(2, 1, ())], True)([0, 1], torch.Generator())
    wanted = [0, 2, 1, 1, 4, 3]  # queries, positives, negatives
    assert batch.sizes == (2, 2, 2)
    assert [batch.ids[place][0] for place in batch.place.tolist()] == wanted
    assert [batch.pool_starts[place] for place in batch.place.tolist()] == [table.pool_starts[row] for row in wanted]
    assert [len(ids) for ids in batch.ids] == sorted(len(ids) for ids in batch.ids)
    assert batch.numbers.tolist() == wanted
    assert no_negatives(*batch.numbers.split((2, 2, 2))).tolist() == [[True, True, False, False]] * 2


def test_what_is_no_negative():
    """Equal to the positive, to the query itself, or the positive of an equal query."""
    queries, positives, negatives = (torch.tensor(numbers) for numbers in ([1, 2, 1], [4, 5, 6], [2, 4]))
    assert no_negatives(queries, positives, negatives).tolist() == [
        [True, False, True, False, True],
        [False, True, False, True, False],
        [True, False, True, False, False],
    ]


def test_score_batches_hold_each_querys_candidates_and_scores():
    table = PromptTable([np.array([row] * (5 - row)) for row in range(5)], [0] * 5, list(range(5)))
    build = score_batch(table, [Triple(0, 1, (4, 3)), Triple(2, 1, (3,))], [(0.5, 0.1, 0.2), (1.0, -1.0)])
    batch = build([0, 1], torch.Generator())
    assert [batch.ids[place][0] for place in batch.place.tolist()] == [0, 2, 1, 4, 3, 1, 3] and batch.sizes == (2, 5, 0)
    assert torch.equal(batch.teacher, torch.tensor([[0.5, 0.1, 0.2], [1.0, -1.0, -torch.inf]]))


def batches(lengths=None, *, count: int = 0, **options) -> Batches:
    settings = {"groups": [0] * (count or len(lengths)), "batch_size": 4, "batch_tokens": None, "accumulation": 1, "seed": 5}
    return Batches(lambda rows, generator: (rows, torch.rand(1, generator=generator).item()), lengths or [1] * count,
                   **{**settings, **options})  # fmt: skip


def rows(found: Batches) -> list[list[int]]:
    return [found[number][0] for number in range(len(found))]


def test_an_epoch_holds_each_example_once_in_a_new_order():
    found = batches(count=12)
    first = rows(found)
    assert sorted(sum(first, [])) == list(range(12)) and [len(batch) for batch in first] == [4, 4, 4]
    found.set_epoch(1)
    assert sorted(sum(rows(found), [])) == list(range(12)) and rows(found) != first
    found.set_epoch(0)
    assert rows(found) == first == rows(batches(count=12)) != rows(batches(count=12, seed=6))


def test_each_batch_has_its_own_randomness_that_repeats():
    found = batches(count=12)
    draws = [found[number][1] for number in range(3)]
    assert len(set(draws)) == 3 and draws == [found[number][1] for number in range(3)]
    found.set_epoch(1)
    assert set(draws).isdisjoint(found[number][1] for number in range(3))


def test_the_users_example_has_1898_steps_an_epoch():
    found = batches(count=45_554, batch_size=6, accumulation=4)
    assert len(found) == 7592 and len(found) / 4 * 3 == 5694


def test_batches_are_of_one_group_each():
    groups = [number % 3 for number in range(40)]
    for batch in rows(batches(count=40, groups=groups)):
        assert len({groups[row] for row in batch}) == 1 and len(batch) == 4


def test_a_token_budget():
    lengths = [3, 9, 1, 4, 25, 2, 7, 5, 6, 8]
    found = batches(lengths, batch_tokens=12)
    for batch in rows(found):
        assert sum(lengths[row] for row in batch) <= 12 or len(batch) == 1
    for epoch in range(1, 6):
        found.set_epoch(epoch)
        assert len(rows(found)) == len(found)  # every epoch has as many steps as the plan says


@pytest.mark.parametrize(("count", "sizes"), [(3, [3]), (8, [4, 4]), (9, [3, 3, 3]), (10, [4, 3, 3]), (15, [4, 4, 4, 3])])
def test_an_evaluation_holds_every_example_in_even_batches(count, sizes):
    found = rows(batches(count=count, every=True))
    assert sorted(sum(found, [])) == list(range(count)) and sorted(map(len, found), reverse=True) == sizes


def test_an_evaluation_holds_every_example_of_each_group_and_within_a_token_budget():
    groups = [number % 3 for number in range(40)]
    for found in (batches(count=40, groups=groups, every=True), batches([5] * 40, groups=groups, batch_tokens=16, every=True)):
        assert sorted(sum(rows(found), [])) == list(range(40))
        assert all(len({groups[row] for row in batch}) == 1 and 2 <= len(batch) <= 4 for batch in rows(found))


def test_fewer_examples_than_a_batch_are_one_batch():
    assert rows(batches(count=3)) == [rows(batches(count=3))[0]] and len(rows(batches(count=3))[0]) == 3
