"""The encoder: text in, vectors out."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ragvec.arguments import strings, whole
from ragvec.encoder.batching import plan_batches
from ragvec.encoder.budget import TokenBudget, device_memory
from ragvec.encoder.checkpoint import save_checkpoint
from ragvec.encoder.device import device_of
from ragvec.encoder.door import foreign
from ragvec.encoder.fingerprint import fingerprint
from ragvec.encoder.forward import Rows, hidden_states, lay_out, states_of
from ragvec.encoder.gradients import forward
from ragvec.encoder.int8 import Int8Measured, check_int8, int8_weights, measure, sample_texts, use_int8_weights, watched_inputs
from ragvec.encoder.pipeline import Pipeline
from ragvec.encoder.pooling import Places, places_of, poolings_of
from ragvec.encoder.projection import Projections, load_projections
from ragvec.encoder.prompt import PromptBuilder, Prompts
from ragvec.encoder.ready import compile_layers, compile_refusal, complete, prepare_attention
from ragvec.encoder.settings import EncoderSettings
from ragvec.encoder.sources import Source, locate
from ragvec.encoder.switching import load_adapter, set_adapter
from ragvec.encoder.templates import Template
from ragvec.encoder.weights import choose_device, choose_dtype, load_model, load_tokenizer
from ragvec.errors import RagvecError, WrongUsage
from ragvec.notebook import described_html

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BLOCK = 8192  # texts tokenized and sorted together: enough for full batches, little enough to stay in memory


class Encoded(NamedTuple):
    """Vectors (n, d) float32, token counts (n,) int64 as encoded, and which texts were shortened (n,) bool."""

    vectors: np.ndarray
    token_counts: np.ndarray
    truncated: np.ndarray

    @classmethod
    def of(cls, prompts: Prompts, vectors: np.ndarray) -> "Encoded":
        """The vectors (n, d) of these prompts, with what the prompts tell of the texts."""
        counts = np.array([len(ids) for ids in prompts.ids], dtype=np.int64)
        return cls(vectors, counts, np.array(prompts.truncated, dtype=bool))


class TokenVectors(NamedTuple):
    """A text's tokens: vectors (t, d) float32, their character offsets in the text (t, 2), and the token strings."""

    vectors: np.ndarray
    offsets: np.ndarray
    tokens: list[str]


class Batch(NamedTuple):
    """Texts of one forward pass, and what of them is pooled."""

    rows: Rows
    places: Places


class Encoder:
    """A decoder-only language model made a text encoder. Make one with `Encoder.load`."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        settings: EncoderSettings,
        *,
        source: str,
        fingerprint: str,
        projections: Projections | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Everything ready to run; `Encoder.load` is the way in."""
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.source = source
        self.found: Source | None = None  # what it was loaded from
        self.fingerprint = self.loaded_fingerprint = fingerprint
        self.adapter_fingerprints: dict[str, str] = {}  # of those that were loaded later
        self.device: torch.device = model.device
        self._device = device_of(model.device)
        self.send = self._device.send  # a host's tensor onto the device
        self._budget = TokenBudget(batch_tokens, model.device.type, device_memory(model.device))
        self.dtype = "int8" if int8_weights(model) else str(model.dtype).removeprefix("torch.")
        self.int8_measured: Int8Measured | None = None  # beside what it was before its weights were int8
        config = model.config.get_text_config()
        self._states_width: int = getattr(config, "word_embed_proj_dim", None) or config.hidden_size  # OPT projects its output
        self.projections = (projections or Projections()).to(model.device)
        full = self.projections.width(self._states_width * poolings_of(settings.pooling))
        if settings.truncate_dim is not None and not 1 <= settings.truncate_dim <= full:
            raise WrongUsage(f"truncate_dim {settings.truncate_dim} is outside 1 … {full}, the encoder's dimension")
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
        query_instruction: str | None = None,
        document_instruction: str | None = None,
        batch_tokens: int | None = None,
        torch_compile: bool = False,
        offline: bool = False,
        named_by: str = "",
    ) -> "Encoder":
        """Load an encoder from a folder or the hub.

        source    a ragvec encoder, the reference's layout (an adapter's base and earlier adapters are found by themselves),
                  a decoder checkpoint, a GGUF file, or a sentence-transformers folder; None = ragvec's own encoder
        device    cpu, cuda, cuda:1, mps. None = the best here
        dtype     float32, bfloat16, float16, auto = as stored, or int8 = int8 weights (CPU), whose loss is then measured.
                  None = the fastest here that keeps the vectors
        adapters  further LoRA adapters to stack, in order; merge: fold them into the weights, else the last stays apart
        truncate_dim  keep the first so many dimensions of every vector (Matryoshka)
        batch_tokens  most tokens in one batch; None = found by measuring while a corpus is encoded
        torch_compile  compile the layers: some seconds before the first batch, then faster; as `compile` does later
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
        precision = "auto" if dtype == "auto" else choose_dtype(dtype, chosen_device)
        model = load_model(found.base, found.adapters, dtype=precision, merge=merge)
        tokenizer = load_tokenizer(found.tokenizer, lower_case=found.settings.lower_case)
        settings = found.settings.override(
            pooling=pooling,
            attention=attention,
            skip_instruction=skip_instruction,
            max_length=max_length,
            doc_max_length=doc_max_length,
            truncate_dim=truncate_dim,
            query_instruction=query_instruction,
            document_instruction=document_instruction,
        )
        with foreign(f"{found.base} does not work as an encoder"):
            settings = complete(settings, model, tokenizer)
            settings = prepare_attention(model.to(chosen_device).eval(), settings)
        name = fingerprint((found.base, *found.adapters, *found.projections), found.tokenizer, settings)
        encoder = cls(
            model, tokenizer, settings, source=str(source), fingerprint=name, batch_tokens=batch_tokens,
            projections=load_projections(found.projections),
        )  # fmt: skip
        encoder.found = found
        if int8:
            encoder = encoder._with_int8_weights(batch_tokens)
        if torch_compile:
            encoder.compile()
        return encoder

    def compile(self) -> None:
        """Compile the layers for any number of tokens, at the first batch. Raises RagvecError where they can't be."""
        compile_layers(self.model, bool(self.settings.packed))

    @property
    def compile_refusal(self) -> str:
        """Why the layers can't be compiled here, and what to do; "" where they can."""
        return compile_refusal(self.model, bool(self.settings.packed))

    @property
    def batch_tokens(self) -> int:
        """Most tokens in one batch, as things stand: measuring may change it, and running out of memory lowers it."""
        return self._budget.tokens

    @property
    def block_tokens(self) -> int:
        """Tokens of the largest batch that `encode_blocks` may still try: make blocks of several such batches."""
        return self._budget.block_tokens

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
            border=settings.border,
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
        self, texts: Sequence[str], *, instruction: str | None = None, normalize: bool = True, truncate_dim: int | None = None
    ) -> np.ndarray:
        """Vectors of documents, (n, d) float32, of length 1 unless normalize is false.

        texts         those with a title may be `ragvec.records.Titled`: it stands in its place, where the instruction has one
        instruction   read before each text; None = the encoder's own for documents, which most have not; "" = none
        truncate_dim  keep the first so many dimensions (Matryoshka), normalised anew
        """
        if instruction is None:
            instruction = self.settings.document_instruction
        return self.encode_counted(texts, instruction=instruction, normalize=normalize, truncate_dim=truncate_dim).vectors

    def encode_counted(
        self, texts: Sequence[str], *, instruction: str, normalize: bool = True, truncate_dim: int | None = None
    ) -> Encoded:
        """Vectors, token counts and which texts were shortened; a vector depends on its own text alone.

        Raises RagvecError for a lone string, and for an instruction that leaves no room for text.
        """
        texts = strings("texts", texts, "text")
        width = self.width(truncate_dim)
        vectors = np.empty((len(texts), width), dtype=np.float32)
        pipeline = self._pipeline(width, normalize)
        counts = np.empty(len(texts), dtype=np.int64)
        truncated = np.empty(len(texts), dtype=bool)
        for start in range(0, len(texts), _BLOCK):
            block = slice(start, start + _BLOCK)
            prompts = self.prompts.build(texts[block], instruction)
            vectors[block] = pipeline.encode(prompts)
            counts[block] = [len(ids) for ids in prompts.ids]
            truncated[block] = prompts.truncated
        return Encoded(vectors, counts, truncated)

    def encode_blocks(self, blocks: Iterable[Sequence[str]], *, instruction: str, normalize: bool = True) -> Iterator[Encoded]:
        """Vectors of one block of texts after another, for bulk work: threads read `blocks`, tokenize them and lay batches out
        while others are computed.

        On a GPU several batches are queued before the first one's vectors are waited for. The first blocks are timed to choose
        the token budget, unless it was given. An error comes after the blocks before its own.
        """
        prompts = (self.prompts.build(texts, instruction) for texts in blocks)
        for done, vectors in self._pipeline(self.dimension, normalize).stream(prompts):
            yield Encoded.of(done, vectors)

    forward = __call__ = forward
    load_adapter, set_adapter = load_adapter, set_adapter
    _repr_html_ = described_html

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, by itself: without template, special tokens or a limit."""
        texts = strings("texts", texts, "text")
        return self.prompts.count(texts)

    def encode_prompts(self, prompts: Prompts) -> np.ndarray:
        """Vectors of what `prompts.build` tokenized, (n, dimension) float32, as pooled: not yet normalised.

        For those who gather texts of several instructions into one batch, as the server does.
        """
        return self._pipeline(self.dimension, normalize=False).encode(prompts)

    @torch.inference_mode()
    def encode_tokens(
        self, texts: Sequence[str], *, instruction: str = "", normalize: bool = True, whole: bool = False
    ) -> list[TokenVectors]:
        """A vector for every token of each text; instruction, template and special tokens are left out.

        whole  keep those too, with offsets (0, 0)
        Offsets count characters of the text as passed; what was cut off for length has no tokens.
        """
        texts = strings("texts", texts, "text")
        prompts = self.prompts.build(texts, instruction)
        found: dict[int, TokenVectors] = {}
        for rows in plan_batches([len(ids) for ids in prompts.ids], self.batch_tokens):
            states = self._hidden([prompts.ids[row] for row in rows])
            for row, hidden in zip(rows, states.split([len(prompts.ids[row]) for row in rows]), strict=True):
                spans = np.array(self.prompts.offsets(instruction, prompts.texts[row])[: len(hidden)]).reshape(-1, 2)
                inside = np.arange(len(spans)) if whole else np.flatnonzero(spans[:, 1] > spans[:, 0])
                kept = self._projected_tokens(hidden[self._device.send(torch.from_numpy(inside))])
                vectors = _finish(kept, normalize).cpu().numpy()
                names = self.tokenizer.convert_ids_to_tokens([prompts.ids[row][place] for place in inside])
                found[row] = TokenVectors(vectors, spans[inside], names)
        return [found[row] for row in range(len(prompts.ids))]

    def save(self, folder: str | Path) -> None:
        """Write a checkpoint that `Encoder.load` reads back to equal vectors; adapters must have been merged.

        Written beside the target and renamed: the folder is whole or absent. Raises RagvecError if it exists and holds files.
        """
        if self.dtype == "int8":
            raise RagvecError("int8 weights are made while loading and can't be saved: load without `dtype` int8 to save")
        save_checkpoint(self.model, self.tokenizer, self.settings, Path(folder), projections=self.projections)

    def __repr__(self) -> str:
        return f"<Encoder {self.source!r}: {self.dimension}-d, {self.dtype}, on {self.device}>"

    def __setstate__(self, state: dict[str, Any]) -> None:  # in another process, whose transformers has yet to know ours
        self.__dict__.update(state)
        prepare_attention(self.model, self.settings)

    def describe(self) -> dict[str, Any]:
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
            "document_instruction": settings.document_instruction,
            "packed_batches": bool(settings.packed),
            "base_model": settings.base_model,
            "adapters": list(settings.adapters),
        }

    def _with_int8_weights(self, batch_tokens: int | None) -> "Encoder":
        """This encoder with its linear layers' weights as int8; measures what that costs."""
        seen, others = sample_texts()
        with watched_inputs(self.model) as inputs:
            self.encode_documents(seen)
        exact = self.encode_documents(others)
        speedup = use_int8_weights(self.model, inputs)
        encoder = Encoder(
            self.model, self.tokenizer, self.settings, source=self.source, fingerprint=self.fingerprint,
            projections=self.projections, batch_tokens=batch_tokens,
        )  # fmt: skip
        encoder.int8_measured = measure(exact, encoder.encode_documents(others), speedup)
        return encoder

    def _pipeline(self, width: int, normalize: bool) -> Pipeline:
        compute = torch.inference_mode()(partial(self.vectors_of, width=width, normalize=normalize))
        return Pipeline(self._device, self._budget, width, lay_out=self.lay_out, compute=compute)

    def lay_out(self, prompts: Prompts, rows: list[int]) -> Batch:
        """These rows of what `prompts.build` tokenized as one batch, on the host."""
        ids = [prompts.ids[row] for row in rows]
        starts = [prompts.pool_starts[row] for row in rows]
        places = places_of([len(text) for text in ids], starts, self.settings.pooling)
        stage = self._device.stage
        return Batch(lay_out(self.model, ids, packed=bool(self.settings.packed)).moved(stage), places.moved(stage))

    def vectors_of(self, batch: Batch, *, width: int, normalize: bool) -> torch.Tensor:
        """A batch's vectors (n, width) float32, queued on the device."""
        hidden = states_of(self.model, batch.rows.moved(self.send))
        pooled = batch.places.moved(self.send).take(hidden)
        return _finish(self.projections.of(pooled)[:, :width], normalize)

    def _projected_tokens(self, states: torch.Tensor) -> torch.Tensor:
        """Token states (t, d) float32 as the linear layers behind the pooling make them, where those take single states."""
        states = states.float()
        alone = poolings_of(self.settings.pooling) == 1
        return (self.projections.of(states) if alone else states)[:, : self.dimension]

    def _hidden(self, ids: list[list[int]]) -> torch.Tensor:
        return hidden_states(self.model, ids, self.device, packed=bool(self.settings.packed))

    def width(self, truncate_dim: int | None) -> int:
        """The dimension of vectors that are cut to `truncate_dim`. Raises RagvecError for one outside them."""
        if truncate_dim is not None and not 1 <= whole("truncate_dim", truncate_dim) <= self.dimension:
            raise WrongUsage(f"truncate_dim {truncate_dim} is outside 1 … {self.dimension}, the encoder's dimension")
        return truncate_dim or self.dimension


def _finish(vectors: torch.Tensor, normalize: bool) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors
