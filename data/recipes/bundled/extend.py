"""Give a trained encoder more Korean tokens, and leave every other text's tokens and vectors as they are.

    python extend.py ENCODER TEXTS.jsonl OUT --vocabulary 60000 --teacher E5 --map MAP.npz

TEXTS.jsonl holds Korean texts ("text" of each line). What the encoder's own merges make of their words is merged further: byte
pair encoding goes on where it stopped. A new token's row is the sum of the rows of the tokens that it is made of: a text's
vector is the direction of its tokens' mean, so the table says the same of a text as before. With a teacher, a Korean token's
row points where the teacher's vector of its string lies in the encoder's space (prepare_korean.py's map) instead, and is the
longer the rarer the token is.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import untrained
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from ragvec import Encoder

_WORD = re.compile(r" ?[가-힣]+")
_PRIVATE = 0xF0000  # code points that stand for the old tokens while their pairs are counted
_LEAST_SEEN = 3
_MOST_SEEN = 200  # a word counts so often at most, so that frequent words' endings don't take all rows
_LEAST_LENGTH = 2  # old tokens of a word that there is something to merge of


def main() -> None:
    """Count words, learn merges, enlarge tokenizer and table, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=60_000)
    parser.add_argument("--teacher", help="an encoder that knows what Korean tokens mean")
    parser.add_argument("--map", type=Path, help="the map from its space")
    options = parser.parse_args()
    encoder = Encoder.load(options.encoder, device="cpu", dtype="float32")
    texts = untrained.read_texts(options.texts)
    encoder, parts = extend(encoder, texts, vocabulary=options.vocabulary)
    if options.teacher:
        point_rows(encoder, Encoder.load(options.teacher, device="cpu", dtype="int8"), options.map, texts)
    encoder.save(options.out)
    print(f"{len(parts)} tokens added: {len(encoder.tokenizer)}")


def extend(encoder: Encoder, texts: Iterable[str], *, vocabulary: int) -> tuple[Encoder, dict[int, tuple[int, int]]]:
    """The encoder with more tokens, up to so many, learnt from the texts; and which two tokens each new one is made of."""
    from transformers import PreTrainedTokenizerFast

    old = encoder.tokenizer
    merges = learn_merges(old.backend_tokenizer, count_words(old.backend_tokenizer, texts), vocabulary - len(old))
    record = json.loads(old.backend_tokenizer.to_str())
    parts = add_merges(record, merges)
    backend = Tokenizer.from_str(json.dumps(record))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=old.eos_token, pad_token=old.pad_token)
    enlarge(encoder.model, parts)
    return Encoder(encoder.model, tokenizer, encoder.settings, source=encoder.source, fingerprint=""), parts


def point_rows(encoder: Encoder, teacher: Encoder, path: Path, texts: Sequence[str]) -> None:
    """Put the rows of tokens of whole syllables where the teacher's vectors of their strings are mapped; in place."""
    there = np.load(path, allow_pickle=False)
    strings = [encoder.tokenizer.decode([token]) for token in range(len(encoder.tokenizer))]
    rows = [token for token, string in enumerate(strings) if _WORD.fullmatch(string)]
    vectors = teacher.encode_queries([strings[row].strip() for row in rows])
    mapped = torch.from_numpy(((vectors - there["middle"]) @ there["matrix"]).astype(np.float32))  # without what all share
    table = encoder.model.get_input_embeddings().weight.detach()
    weights = untrained.weights(encoder.tokenizer, texts, strings)[rows]
    table[rows] = (
        torch.nn.functional.normalize(mapped, dim=1) * torch.from_numpy(weights * table.shape[1] ** 0.5).float()[:, None]
    )


def count_words(backend: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each Korean word occurs, a space before it where the text has one."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(" " + backend.normalizer.normalize_str(text)))
    return counts


def learn_merges(backend: Tokenizer, counts: Counter[str], size: int) -> list[tuple[str, str]]:
    """Pairs of tokens to merge after the old merges, most frequent first."""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = {token: name for name, token in backend.get_vocab().items()}
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    def repeated() -> Iterable[str]:
        for word, count in counts.items():
            ((spelt, _),) = plain.pre_tokenize_str(word)
            tokens = [token.id for token in backend.model.tokenize(spelt)]
            if len(tokens) >= _LEAST_LENGTH:
                yield " ".join(["".join(chr(_PRIVATE + token) for token in tokens)] * min(count, _MOST_SEEN))

    trainer = trainers.BpeTrainer(vocab_size=len(names) + size, min_frequency=_LEAST_SEEN, show_progress=False)
    learner.train_from_iterator(repeated(), trainer)
    found = json.loads(learner.to_str())["model"]["merges"][:size]
    spell = lambda piece: "".join(names[ord(one) - _PRIVATE] for one in piece)  # noqa: E731
    return [(spell(left), spell(right)) for left, right in found]


def add_merges(record: dict, merges: list[tuple[str, str]]) -> dict[int, tuple[int, int]]:
    """Add merges and their tokens to a tokenizer's record; which two tokens each new one is made of."""
    model, parts = record["model"], {}
    for left, right in merges:
        model["merges"].append([left, right])
        if left + right not in model["vocab"]:
            parts[len(model["vocab"])] = (model["vocab"][left], model["vocab"][right])
            model["vocab"][left + right] = len(model["vocab"])
    return parts


def enlarge(model: torch.nn.Module, parts: dict[int, tuple[int, int]]) -> None:
    """Rows for the new tokens: each the sum of those that it is made of."""
    old = model.get_input_embeddings().weight.detach()
    table = torch.cat([old, torch.zeros(len(parts), old.shape[1])])
    for token, (left, right) in parts.items():
        table[token] = table[left] + table[right]
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(table, freeze=False))
    model.config.vocab_size = len(table)


if __name__ == "__main__":
    main()
