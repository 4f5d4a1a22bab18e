"""What an encoder is beside its weights: pooling, lengths, instruction, template; stored in the checkpoint's ragvec.json."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ragvec import __version__
from ragvec.checked import Mismatch, check_fields, check_value, shown
from ragvec.encoder.instruction import parse
from ragvec.encoder.templates import Template
from ragvec.errors import Damaged, NotFound, RagvecError, WrongInput, WrongUsage
from ragvec.files import read_described, write_json

SETTINGS_FILE = "ragvec.json"
FORMAT = 1
ATTENTIONS = ("bidirectional", "causal", "unchanged")
BORDERS = ("text", "prompt")
QUERY_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query:"


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How text becomes a vector; the defaults are the reference's.

    attention          bidirectional, causal, or unchanged (whatever the architecture does, for models made elsewhere)
    max_length         tokens of a whole prompt; doc_max_length: of the text alone
    skip_instruction   the instruction is read but not pooled
    query_instruction  what encode_queries puts before a query when no other is given
    document_instruction  what encode_documents puts before a document when no other is given; both may have places for the
                       text and its title, {text} and {title} (ragvec.encoder.instruction)
    prompts            what else the model was trained to read before texts, by name: sentence-transformers' prompts
    separator          between instruction and text
    border             where skip_instruction begins to pool: "text" = at the text, as the reference finds it; "prompt" = after
                       as many tokens as the prompt has by itself, and without one at the first, as sentence-transformers does
    lower_case         texts are read in lower case
    template           what surrounds a prompt; None = not looked up yet
    base_weights       an adapter's: what names (ragvec.encoder.base_weights) the weights it was trained on; "" = not known
    adapters           the adapters stacked on base_model, first merged first: folders or hub ids, "@" and a revision behind
    truncate_dim       only the first so many dimensions of a vector are kept (Matryoshka); None = all
    projections        folders within the encoder's, of the linear layers behind the pooling
    packed             whether padding-free batches gave the model's own vectors; None = not tried yet
    """

    pooling: str = "mean"
    attention: str = "bidirectional"
    max_length: int = 512
    doc_max_length: int = 400
    skip_instruction: bool = True
    query_instruction: str = QUERY_INSTRUCTION
    document_instruction: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    separator: str = " "
    border: str = "text"
    lower_case: bool = False
    template: Template | None = None
    base_model: str = ""
    base_revision: str | None = None
    base_weights: str = ""
    adapters: tuple[str, ...] = ()
    truncate_dim: int | None = None
    projections: tuple[str, ...] = ()
    packed: bool | None = None

    def __post_init__(self) -> None:
        try:
            check_fields({item.name: getattr(self, item.name) for item in fields(self)}, EncoderSettings)
        except Mismatch as error:
            raise RagvecError(f"{error}: give one, or leave it out") from error
        if self.attention not in ATTENTIONS:
            raise WrongInput(f"unknown attention {self.attention!r}: choose one of {', '.join(ATTENTIONS)}")
        if self.border not in BORDERS:
            raise WrongInput(f"unknown border {self.border!r}: choose one of {', '.join(BORDERS)}")
        if self.max_length < 1 or self.doc_max_length < 1:
            raise WrongUsage(f"max_length {self.max_length} and doc_max_length {self.doc_max_length} must be at least 1 token")
        for instruction in (self.query_instruction, self.document_instruction):
            parse(instruction)

    def prompt(self, name: str) -> str:
        """The prompt of this name; query and document are the encoder's own instructions. Raises NotFound if there is none."""
        named = {"query": self.query_instruction, "document": self.document_instruction, **self.prompts}
        if name not in named:
            raise NotFound(f"the encoder has no prompt {name!r:.80}: it has {', '.join(sorted(named))}")
        return named[name]

    def override(self, **changes: Any) -> "EncoderSettings":
        """A copy with every given value that is not None; a max_length alone also frees the text up to it."""
        given = {name: value for name, value in changes.items() if value is not None}
        if "max_length" in given and "doc_max_length" not in given:
            given["doc_max_length"] = given["max_length"]
        return replace(self, **given)


def write_settings(folder: Path, settings: EncoderSettings) -> None:
    """Write ragvec.json into a checkpoint folder."""
    record = {"format": FORMAT, "ragvec": __version__, **asdict(settings)}
    write_json(folder / SETTINGS_FILE, record)


def read_settings(folder: Path) -> EncoderSettings:
    """Read a checkpoint folder's ragvec.json. Raises RagvecError for a damaged file or a newer format."""
    path = folder / SETTINGS_FILE
    try:
        record = json.loads(read_described(path))
        if not isinstance(record, dict) or "format" not in record:
            raise Mismatch("`format` is not there")
        written = check_value("format", record.pop("format"), int)
        values = check_fields(record, EncoderSettings) if written <= FORMAT else {}
    except Mismatch as error:
        raise Damaged(f"{path}: {error}: restore it or convert the model again") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(
            f"{path} is not a readable encoder description ({shown(str(error))}): restore it or convert the model again"
        ) from error
    if written > FORMAT:
        raise WrongInput(f"{path} has format {written}, this ragvec {__version__} reads up to {FORMAT}: upgrade ragvec")
    try:
        return EncoderSettings(**values)
    except RagvecError as error:
        raise Damaged(f"{path}: {error}") from error
