"""The untrained base model: a tokenizer of its own, a token table that comes from the teacher, layers that do nothing yet."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

EOS = "</s>"
VOCABULARY = 36_864
_LAYERS, _HEADS, _KEY_VALUE_HEADS, _INNER = 2, 6, 2, 1_024
_POSITIONS = 1_024
# RMSNorm would give every token the same say in the mean. With rows of at most mean square 1 and an epsilon of the same size
# it is nearly linear, and a rare word keeps its larger weight.
_NORM_EPSILON = 1.0
_RARE = 1e-4  # SIF's a: a token of this frequency weighs a half
_KOREAN_REPEATS = 2  # Korean is a few per cent of the text; so often it is read when the tokenizer is trained
_BLOCK = 4_096


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY):
    """A byte-level BPE tokenizer that reads lower case, trained on `texts`; `</s>` separates documents, none is added.

    The teacher reads lower case too, and in a small vocabulary "The" and "the" would take two rows. A space is put
    before the first word, so that it has the same token as inside a sentence.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_weighted(texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS)


def build_table(tokenizer, texts: Sequence[str], teacher) -> np.ndarray:
    """The teacher's vector of each token's own string, weighted by inverse frequency: (vocabulary, d) float32.

    The weight is a / (a + p), p being the token's frequency in `texts` among tokens of its script. Tokens that are no
    string of their own (pieces of a character) have zeros. The mean vector, which every token shares, is taken out.
    Source: Arora et al., 2017 (SIF).
    """
    strings = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    known = [row for row, string in enumerate(strings) if string.strip() and "\ufffd" not in string and string != EOS]
    vectors = np.zeros((len(strings), teacher.dimension), dtype=np.float32)
    vectors[known] = teacher.encode_documents([strings[row].strip() for row in known])
    shares = weights(tokenizer, texts, strings)
    vectors[known] -= np.average(vectors[known], axis=0, weights=shares[known])
    vectors[known] /= np.linalg.norm(vectors[known], axis=1, keepdims=True)
    return vectors * np.sqrt(vectors.shape[1]) * shares[:, None]


def weights(tokenizer, texts: Sequence[str], strings: Sequence[str]) -> np.ndarray:
    """How much each token counts, 0 … 1, by inverse frequency: (vocabulary,)."""
    return _RARE / (_RARE + _frequencies(tokenizer, texts, strings))


def save_base(folder: Path, tokenizer, table: np.ndarray, *, seed: int) -> None:
    """Write a Llama decoder over the table whose layers add nothing: both output projections of each are zero."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    size = table.shape[1]
    config = LlamaConfig(
        vocab_size=len(table),
        hidden_size=size,
        intermediate_size=_INNER,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_KEY_VALUE_HEADS,
        max_position_embeddings=_POSITIONS,
        rms_norm_eps=_NORM_EPSILON,
        initializer_range=size**-0.5,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        rows = torch.from_numpy(table)
        model.model.embed_tokens.weight.copy_(rows)
        model.lm_head.weight.copy_(0.4 * torch.nn.functional.normalize(rows, dim=-1))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_texts(path: Path) -> list[str]:
    """The `text` of every line of a JSONL file."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def is_korean(text: str) -> bool:
    """Whether a text holds Hangul."""
    return any("가" <= character <= "힣" for character in text)


def _weighted(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for _ in range(_KOREAN_REPEATS if is_korean(text) else 1):
            yield text


def _frequencies(tokenizer, texts: Sequence[str], strings: Sequence[str]) -> np.ndarray:
    """Each token's share of all tokens of its script (Hangul or other) in `texts`."""
    counts: Counter = Counter()
    for start in range(0, len(texts), _BLOCK):
        for ids in tokenizer(list(texts[start : start + _BLOCK]), add_special_tokens=False)["input_ids"]:
            counts.update(ids)
    found = np.array([counts[token] for token in range(len(strings))], dtype=np.float64)
    korean = np.array([is_korean(string) for string in strings])
    return found / np.where(korean, found[korean].sum(), found[~korean].sum())
