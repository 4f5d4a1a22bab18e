"""The encoder: text in, vectors out."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ragvec.encoder.batching import plan_batches
from ragvec.encoder.budget import TokenBudget, is_out_of_memory
from ragvec.encoder.checkpoint import save_checkpoint
from ragvec.encoder.door import foreign
from ragvec.encoder.fingerprint import fingerprint
from ragvec.encoder.forward import hidden_states
from ragvec.encoder.int8 import check_int8, cosines, int8_weights, sample_texts, use_int8_weights
from ragvec.encoder.pooling import pool
from ragvec.encoder.prompt import PromptBuilder, Prompts
from ragvec.encoder.ready import compile_layers, complete, prepare_attention
from ragvec.encoder.settings import EncoderSettings
from ragvec.encoder.sources import locate
from ragvec.encoder.templates import Template
from ragvec.encoder.weights import choose_device, choose_dtype, load_model, load_tokenizer
from ragvec.errors import RagvecError

_BLOCK = 8192  # texts tokenized and sorted together: enough for full batches, little enough to stay in memory


class Encoded(NamedTuple):
    """Vectors (n, d) float32, token counts (n,) int64 as encoded, and which texts were shortened (n,) bool."""

    vectors: np.ndarray
    token_counts: np.ndarray
    truncated: np.ndarray


class TokenVectors(NamedTuple):
    """A text's tokens: vectors (t, d) float32, their character offsets in the text (t, 2), and the token strings."""

    vectors: np.ndarray
    offsets: np.ndarray
    tokens: list[str]


class Encoder:
    """A decoder-only language model made a text encoder. Make one with `Encoder.load`."""

    def __init__(
        self,
        model,
        tokenizer,
        settings: EncoderSettings,
        *,
        source: str,
        fingerprint: str,
        batch_tokens: int | None = None,
    ) -> None:
        """Everything ready to run; `Encoder.load` is the way in."""
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.source = source
        self.fingerprint = fingerprint
        self._budget = TokenBudget(batch_tokens, model.device.type)
        self.device: torch.device = model.device
        self.dtype = "int8" if int8_weights(model) else str(model.dtype).removeprefix("torch.")
        self.int8_cosines: tuple[float, float] | None = None  # mean and least, to what it was before its weights were int8
        config = model.config.get_text_config()
        full: int = getattr(config, "word_embed_proj_dim", None) or config.hidden_size  # OPT projects its output
        if settings.truncate_dim is not None and not 1 <= settings.truncate_dim <= full:
            raise RagvecError(f"truncate_dim {settings.truncate_dim} is outside 1 … {full}, the encoder's dimension")
        self.dimension: int = settings.truncate_dim or full

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        adapters: Sequence[str | Path] = (),
        merge: bool = True,
        pooling: str | None = None,
        attention: str | None = None,
        skip_instruction: bool | None = None,
        max_length: int | None = None,
        doc_max_length: int | None = None,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        torch_compile: bool = False,
        offline: bool = False,
        named_by: str = "",
    ) -> "Encoder":
        """Load an encoder from a folder or the hub.

        source    a ragvec encoder, the reference's layout (an adapter's base and earlier adapters are found by themselves),
                  a decoder checkpoint, or a sentence-transformers folder; None = the encoder that ships with ragvec
        device    cpu, cuda, cuda:1, mps. None = the best here
        dtype     float32, bfloat16, float16, auto = as stored, or int8 = int8 weights (CPU), whose loss is then measured.
                  None = the fastest here that keeps the vectors
        adapters  further LoRA adapters to stack, in order; merge: fold them into the weights, else the last stays apart
        truncate_dim  keep the first so many dimensions of every vector (Matryoshka)
        batch_tokens  most tokens in one batch; None = found by measuring while a corpus is encoded
        torch_compile  compile the layers: some seconds before the first batch, then faster
        offline   never ask the network, the hub's cache alone; named_by: what names the source, where the user did not
        The others override what the checkpoint says (EncoderSettings).
        Raises RagvecError where something is missing or can't be used. Never runs remote code, never unpickles.
        """
        if source is None:
            from ragvec.data import data_path

            source = data_path("encoder")
        stacked = tuple(str(adapter) for adapter in adapters)
        found = locate(str(source), revision=revision, adapters=stacked, offline=offline, named_by=named_by)
        chosen_device = choose_device(device)
        if int8 := dtype == "int8":
            check_int8(chosen_device, torch_compile)
            dtype = None
        model = load_model(
            found.base,
            found.adapters,
            dtype="auto" if dtype == "auto" else choose_dtype(dtype, chosen_device),
            merge=merge,
        )
        tokenizer = load_tokenizer(found.tokenizer)
        settings = found.settings.override(
            pooling=pooling,
            attention=attention,
            skip_instruction=skip_instruction,
            max_length=max_length,
            doc_max_length=doc_max_length,
            truncate_dim=truncate_dim,
        )
        with foreign(f"{found.base} does not work as an encoder"):
            settings = complete(settings, model, tokenizer, found)
            model.to(chosen_device).eval()
            settings = prepare_attention(model, settings)
        identity = {
            "source": str(source),
            "fingerprint": fingerprint((found.base, *found.adapters), found.tokenizer, settings),
            "batch_tokens": batch_tokens,
        }
        encoder = cls(model, tokenizer, settings, **identity)
        if int8:
            encoder = encoder._with_int8_weights(identity)
        if torch_compile:
            compile_layers(model, bool(settings.packed))
        return encoder

    @property
    def batch_tokens(self) -> int:
        """Most tokens in one batch, as things stand: measuring may change it, and running out of memory lowers it."""
        return self._budget.tokens

    @cached_property
    def prompts(self) -> PromptBuilder:
        """Builds this encoder's token ids."""
        settings = self.settings
        template = settings.template or Template()
        return PromptBuilder(
            self.tokenizer,
            prefix=template.prefix,
            suffix=template.suffix + (template.eos if settings.pooling == "eos_token" else ""),
            separator=settings.separator,
            max_length=settings.max_length,
            doc_max_length=settings.doc_max_length,
            skip_instruction=settings.skip_instruction,
        )

    def encode_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, normalize: bool = True, truncate_dim: int | None = None
    ) -> np.ndarray:
        """Vectors of queries, (n, d) float32, of length 1 unless normalize is false.

        instruction   what the query is for, read before each text; None = the encoder's own, "" = none
        truncate_dim  keep the first so many dimensions (Matryoshka), normalised anew
        """
        if instruction is None:
            instruction = self.settings.query_instruction
        encoded = self.encode_counted(texts, instruction=instruction, normalize=normalize, truncate_dim=truncate_dim)
        return encoded.vectors

    def encode_documents(
        self, texts: Sequence[str], *, instruction: str = "", normalize: bool = True, truncate_dim: int | None = None
    ) -> np.ndarray:
        """Vectors of documents, (n, d) float32, of length 1 unless normalize is false; documents carry no instruction."""
        return self.encode_counted(texts, instruction=instruction, normalize=normalize, truncate_dim=truncate_dim).vectors

    @torch.inference_mode()
    def encode_counted(
        self, texts: Sequence[str], *, instruction: str, normalize: bool = True, truncate_dim: int | None = None
    ) -> Encoded:
        """Vectors, token counts and which texts were shortened; a vector depends on its own text alone.

        Raises TypeError for a lone string, RagvecError for an instruction that leaves no room for text.
        """
        _check_texts(texts)
        width = self._width(truncate_dim)
        vectors = np.empty((len(texts), width), dtype=np.float32)
        counts = np.empty(len(texts), dtype=np.int64)
        truncated = np.empty(len(texts), dtype=bool)
        for start in range(0, len(texts), _BLOCK):
            block = slice(start, start + _BLOCK)
            prompts = self.prompts.build(texts[block], instruction)
            self._encode_block(prompts, vectors[block], normalize)
            counts[block] = [len(ids) for ids in prompts.ids]
            truncated[block] = prompts.truncated
        return Encoded(vectors, counts, truncated)

    def encode_blocks(self, blocks: Iterable[Sequence[str]], *, instruction: str, normalize: bool = True) -> Iterator[Encoded]:
        """Vectors of one block of texts after another, for bulk work: the next block is tokenized while this one is computed.

        On a GPU a block's results are fetched only once the next block's work is queued. The first blocks are timed to choose
        the token budget, unless it was given.
        """
        waiting = None
        with ThreadPoolExecutor(1, "tokenize") as tokenizer:
            texts = iter(blocks)
            ahead = tokenizer.submit(self._prompts_of_next, texts, instruction)
            while (prompts := ahead.result()) is not None:
                ahead = tokenizer.submit(self._prompts_of_next, texts, instruction)
                launched = self._launch_timed(prompts)
                if waiting is not None:
                    yield self._collect(*waiting, normalize)
                waiting = prompts, launched
                if self.device.type == "cpu":  # nothing is queued there: it is done
                    yield self._collect(*waiting, normalize)
                    waiting = None
            if waiting is not None:
                yield self._collect(*waiting, normalize)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, by itself: without template, special tokens or a limit."""
        _check_texts(texts)
        return self.prompts.count(texts)

    @torch.inference_mode()
    def encode_prompts(self, prompts: Prompts) -> np.ndarray:
        """Vectors of what `prompts.build` tokenized, (n, dimension) float32, as pooled: not yet normalised.

        For those who gather texts of several instructions into one batch, as the server does.
        """
        vectors = np.empty((len(prompts.ids), self.dimension), dtype=np.float32)
        self._encode_block(prompts, vectors, normalize=False)
        return vectors

    @torch.inference_mode()
    def encode_tokens(
        self, texts: Sequence[str], *, instruction: str = "", normalize: bool = True, whole: bool = False
    ) -> list[TokenVectors]:
        """A vector for every token of each text; instruction, template and special tokens are left out.

        whole  keep those too, with offsets (0, 0)
        Offsets count characters of the text as passed; what was cut off for length has no tokens.
        """
        _check_texts(texts)
        prompts = self.prompts.build(texts, instruction)
        lead = self.prompts.lead(instruction)
        found: list[TokenVectors | None] = [None] * len(prompts.ids)
        for rows in plan_batches([len(ids) for ids in prompts.ids], self.batch_tokens):
            states = self._hidden([prompts.ids[row] for row in rows])
            for row, hidden in zip(rows, states.split([len(prompts.ids[row]) for row in rows]), strict=True):
                spans = np.array(self.prompts.offsets(lead, prompts.texts[row])[: len(hidden)]).reshape(-1, 2)
                inside = np.arange(len(spans)) if whole else np.flatnonzero(spans[:, 1] > spans[:, 0])
                kept = hidden[torch.from_numpy(inside).to(hidden.device), : self.dimension]
                vectors = _finish(kept.float(), normalize)
                names = self.tokenizer.convert_ids_to_tokens([prompts.ids[row][place] for place in inside])
                found[row] = TokenVectors(vectors, spans[inside], names)
        return found

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint that `Encoder.load` reads back to equal vectors; adapters must have been merged.

        Written beside the target and renamed: the folder is whole or absent. Raises RagvecError if it exists and holds files.
        """
        if self.dtype == "int8":
            raise RagvecError("int8 weights are made while loading and can't be saved: load without --dtype int8 to save")
        save_checkpoint(self.model, self.tokenizer, self.settings, Path(folder))

    def describe(self) -> dict:
        """What this encoder is, for people and logs; JSON values only."""
        settings = self.settings
        return {
            "source": self.source,
            "architecture": self.model.config.model_type,
            "parameters": sum(weight.numel() for weight in self.model.parameters()) + int8_weights(self.model),
            "dimension": self.dimension,
            "fingerprint": self.fingerprint,
            "device": str(self.device),
            "dtype": self.dtype,
            "attention": settings.attention,
            "pooling": settings.pooling,
            "max_length": settings.max_length,
            "doc_max_length": settings.doc_max_length,
            "query_instruction": settings.query_instruction,
            "packed_batches": bool(settings.packed),
            "base_model": settings.base_model,
            "adapters": list(settings.adapters),
        }

    def _with_int8_weights(self, identity: dict) -> "Encoder":
        """This encoder with its linear layers' weights as int8; measures what that costs."""
        texts = sample_texts()
        exact = self.encode_documents(texts)
        use_int8_weights(self.model)
        encoder = Encoder(self.model, self.tokenizer, self.settings, **identity)
        encoder.int8_cosines = cosines(exact, encoder.encode_documents(texts))
        return encoder

    def _encode_block(self, prompts: Prompts, out: np.ndarray, normalize: bool) -> None:
        for rows, pooled in self._launch(prompts):
            out[rows] = _finish(pooled[:, : out.shape[1]], normalize)

    def _prompts_of_next(self, blocks: Iterator[Sequence[str]], instruction: str) -> Prompts | None:
        texts = next(blocks, None)
        return None if texts is None else self.prompts.build(texts, instruction)

    def _launch_timed(self, prompts: Prompts) -> list[tuple[list[int], torch.Tensor]]:
        tokens = sum(map(len, prompts.ids))
        if self._budget.begin(tokens) is None:
            return list(self._launch(prompts))
        started = time.perf_counter()
        launched = list(self._launch(prompts))
        if launched and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._budget.record(tokens, time.perf_counter() - started)
        return launched

    @torch.inference_mode()
    def _collect(self, prompts: Prompts, launched: list[tuple[list[int], torch.Tensor]], normalize: bool) -> Encoded:
        vectors = np.empty((len(prompts.ids), self.dimension), dtype=np.float32)
        for rows, pooled in launched:
            vectors[rows] = _finish(pooled[:, : self.dimension], normalize)
        counts = np.array([len(ids) for ids in prompts.ids], dtype=np.int64)
        return Encoded(vectors, counts, np.array(prompts.truncated, dtype=bool))

    def _launch(self, prompts: Prompts) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Pooled vectors (n, d) on the device, batch by batch, with their rows; a batch too large for the memory is halved."""
        batches = plan_batches([len(ids) for ids in prompts.ids], self.batch_tokens)[::-1]
        while batches:
            rows = batches.pop()
            pooled = self._pooled(prompts, rows)
            if pooled is not None:
                yield rows, pooled
                continue
            tokens = sum(len(prompts.ids[row]) for row in rows)
            if len(rows) == 1:
                raise RagvecError(f"a text of {tokens:,} tokens does not fit into the memory: lower --max-length")
            self._budget.halve(tokens)
            middle = len(rows) // 2
            batches += [rows[middle:], rows[:middle]]

    @torch.inference_mode()
    def _pooled(self, prompts: Prompts, rows: list[int]) -> torch.Tensor | None:
        """One batch; None if memory ran out, and then nothing of it is held any more."""
        ids = [prompts.ids[row] for row in rows]
        starts = [prompts.pool_starts[row] for row in rows]
        try:
            return pool(self._hidden(ids), [len(text) for text in ids], starts, self.settings.pooling)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        except IndexError as error:
            raise RagvecError(
                "a token's id is beyond the model's vocabulary: its tokenizer belongs to another model"
            ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _hidden(self, ids: list[list[int]]) -> torch.Tensor:
        return hidden_states(self.model, ids, self.device, packed=bool(self.settings.packed))

    def _width(self, truncate_dim: int | None) -> int:
        if truncate_dim is not None and not 1 <= truncate_dim <= self.dimension:
            raise RagvecError(f"truncate_dim {truncate_dim} is outside 1 … {self.dimension}, the encoder's dimension")
        return truncate_dim or self.dimension


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings: pass [text] instead of text")


def _finish(vectors: torch.Tensor, normalize: bool) -> np.ndarray:
    if normalize:
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
    return vectors.cpu().numpy()
