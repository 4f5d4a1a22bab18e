"""The requests, as JSON and as the OpenAPI description shows them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from ragvec.index.where import LONGEST
from ragvec.retrieve.request import DEFAULTS, DENSE_WEIGHTS, Fusion, Group, Mode

_SHARES = ", ".join(f"{share} with {fusion}" for fusion, share in DENSE_WEIGHTS.items())
_NO_TOKEN_IDS = "token ids are refused, for they are another tokenizer's: send the text itself"


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: say what to look for")
    return text


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character: remove it")
    return text


Query = Annotated[StrictStr, AfterValidator(_not_blank)]
CleanText = Annotated[StrictStr, AfterValidator(_without_nul)]
FilterValue = StrictStr | StrictBool | StrictInt | StrictFloat
Share = Annotated[StrictFloat, Field(ge=0, le=1)]  # which takes whole numbers too
DocId = Annotated[StrictStr, Field(min_length=1, max_length=1024), AfterValidator(_without_nul)]


Item = TypeVar("Item")
Many = Annotated[list[Item], Field(fail_fast=True)]  # every list is one: else a million wrong items make a million errors


def _nullable(schema: dict[str, Any]) -> None:
    """Say in a model's description that fields with a default may be null."""
    for name, field in schema["properties"].items():
        if name not in schema.get("required", ()):
            about = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
            kinds = field.pop("anyOf", None) or [dict(field)]
            kinds = [kind for kind in kinds if kind != {"type": "null"}]
            field.clear()
            field.update(about, anyOf=[*kinds, {"type": "null"}])


class _Body(BaseModel):
    """A request. Null for a field that may be left out is as if it were: many clients send every field they know."""

    model_config = ConfigDict(json_schema_extra=_nullable)

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, given: Any) -> Any:
        if not isinstance(given, dict) or all(value is not None for value in given.values()):
            return given
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in given.items() if value is not None or name not in optional}


class _Strict(_Body):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _knows_all_fields(cls, given: Any) -> Any:
        """The first field too many is one error; pydantic would make one of each."""
        unknown = next((name for name in given if name not in cls.model_fields), None) if isinstance(given, Mapping) else None
        if unknown is not None:
            raise ValueError(f"{unknown}: there is no such field")
        return given


class EmbeddingsRequest(_Body):
    """OpenAI's request; input_type and instruction are ragvec's. Further fields that OpenAI's clients send are ignored."""

    input: StrictStr | Many[StrictStr | StrictInt | Many[StrictInt]] = Field(description="One text, or a list of texts.")
    model: StrictStr | None = Field(None, description="Any name: the server has one encoder, and answers with its name.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: StrictInt | None = Field(None, ge=1, description="Keep the first so many dimensions, normalised anew.")
    input_type: Literal["query", "document"] = Field(
        "document", description="Which of the encoder's own instructions is put before each text; for documents most have none."
    )
    instruction: StrictStr | None = Field(None, max_length=4096, description="Put before each text instead.")
    prompt_name: StrictStr | None = Field(None, max_length=256, description="The encoder's prompt that is put there, by name.")

    def texts(self) -> list[str]:
        """The input as a list. Raises ValueError for token ids and for an empty list."""
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [text for text in given if isinstance(text, str)]
        if not given:
            raise ValueError("input is an empty list: send at least one text")
        if len(texts) < len(given):
            raise ValueError(f"input: {_NO_TOKEN_IDS}")
        return texts


class EmbedRequest(_Body):
    """The request of Hugging Face's text-embeddings-inference."""

    inputs: StrictStr | Annotated[Many[StrictStr], Field(min_length=1)]
    normalize: StrictBool = True
    truncate: StrictBool = Field(True, description="false: a text that is too long is refused (413) instead of cut.")
    prompt_name: StrictStr | None = Field(
        None,
        max_length=256,
        description="The encoder's prompt that goes before: query, document or another; none = document.",
    )
    dimensions: StrictInt | None = Field(None, ge=1)


class SearchRequest(_Strict):
    """What to find: a query in words, or a vector made by the same encoder.

    The fields of `ragvec.retrieve.Request` under its names and with its defaults, bounded here too so that the description
    of this API says it; a test holds them to each other. highlight, facets and context are the server's own.
    """

    query: Query | None = DEFAULTS["query"]
    vector: Many[StrictFloat] | None = Field(DEFAULTS["vector"], description="Instead of a query; found by similarity alone.")
    k: StrictInt = Field(DEFAULTS["k"], ge=1)
    mode: Mode | None = Field(DEFAULTS["mode"], description="Default: hybrid for a query; a vector is always dense.")
    syntax: StrictBool = Field(
        DEFAULTS["syntax"],
        description='Signs in the query mean something: "in sequence", +word, -word, title:word, begin*, wrod~.',
    )
    instruction: StrictStr | None = Field(
        DEFAULTS["instruction"], max_length=4096, description='Default: the encoder\'s own; "" = none.'
    )
    where: StrictStr | None = Field(
        DEFAULTS["where"], max_length=LONGEST, description='A filter on metadata: `year >= 2020 and lang = "ko"`.'
    )
    where_values: dict[str, FilterValue | Many[FilterValue]] | None = Field(
        DEFAULTS["where_values"], description='What each $name in `where` stands for: `group in $groups`, {"groups": ["a"]}.'
    )
    offset: StrictInt = Field(DEFAULTS["offset"], ge=0, description="Hits to pass over, for pages.")
    min_score: StrictFloat | None = Field(DEFAULTS["min_score"], description="No hit below it.")
    group_by: Group | None = Field(DEFAULTS["group_by"], description="Of each document only its best passage.")
    diversity: Share = Field(DEFAULTS["diversity"], description="How much hits shall differ from each other.")
    fusion: Fusion = Field(DEFAULTS["fusion"], description="How hybrid search joins its two rankings.")
    dense_weight: Share | None = Field(
        DEFAULTS["dense_weight"], description=f"The share of the vectors in a fusion; default: {_SHARES}."
    )
    rerank: Literal["maxsim"] | None = Field(
        DEFAULTS["rerank"], description="Score the best hits again by the encoder's token vectors."
    )
    rerank_depth: StrictInt = Field(DEFAULTS["rerank_depth"], ge=1, description="How many hits are scored again.")
    snippets: StrictBool = Field(DEFAULTS["snippets"], description="Add to each hit the sentence nearest to the query.")
    highlight: StrictBool = Field(
        False,
        description="Add to each hit the stretch of its text to show, the words to mark, its file, page and url if known.",
    )
    facets: StrictBool = Field(False, description="Add the values by which the best 100 hits fall into groups, to filter by.")
    context: StrictInt | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Add a prompt for a language model with the hits in it, of at most so many tokens.",
    )


class SimilarRequest(_Strict):
    """Which documents are like one of the index; the fields beside it as in SearchRequest."""

    doc_id: DocId
    passage_id: StrictStr | None = Field(None, description="What is like this passage of it; default: all of it.")
    k: StrictInt = Field(DEFAULTS["k"], ge=1)
    where: StrictStr | None = Field(DEFAULTS["where"], max_length=LONGEST)
    where_values: dict[str, FilterValue | Many[FilterValue]] | None = DEFAULTS["where_values"]
    highlight: StrictBool = False


class PlacesRequest(_Strict):
    """Where passages are on the map."""

    version: StrictStr = Field(max_length=64, description="Of the map that is meant, as /map says.")
    passage_ids: Annotated[Many[StrictStr], Field(max_length=1000)]


class AskRequest(_Strict):
    """What to answer from the index; the fields beside the question as in SearchRequest."""

    question: Query
    k: StrictInt = Field(DEFAULTS["k"], ge=1, description="Passages to look for; weak matches among them are left out.")
    mode: Mode | None = DEFAULTS["mode"]
    where: StrictStr | None = Field(DEFAULTS["where"], max_length=LONGEST)
    where_values: dict[str, FilterValue | Many[FilterValue]] | None = DEFAULTS["where_values"]
    min_score: StrictFloat | None = DEFAULTS["min_score"]


class RerankDocument(BaseModel):
    """A document as an object."""

    text: StrictStr


Documents = Annotated[Many[StrictStr | RerankDocument], Field(min_length=1)]


class Rerank(_Body):
    """What every request to rerank may say."""

    query: Query
    model: StrictStr | None = None
    top_n: StrictInt | None = Field(None, ge=1)
    return_documents: StrictBool = False
    instruction: StrictStr | None = Field(None, max_length=4096)


class RerankRequest(Rerank):
    """Cohere's, Jina's and vLLM's request. Further fields that their clients send are ignored."""

    documents: Documents

    def texts(self) -> list[str]:
        """The documents' texts."""
        return _texts(self.documents)


class EitherRerankRequest(Rerank):
    """vLLM's request, with `documents`, or that of text-embeddings-inference, with `texts`; each is answered in its own way."""

    documents: Documents | None = None
    texts: Annotated[Many[StrictStr], Field(min_length=1)] | None = None
    return_text: StrictBool = Field(False, description="With texts: give them back.")
    truncate: StrictBool = Field(True, description="false: a text that is too long is refused (413) instead of cut.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "EitherRerankRequest":
        if (self.documents is None) == (self.texts is None):
            raise ValueError("send either documents or texts")
        return self

    def all_texts(self) -> list[str]:
        """The texts, whatever they are called."""
        return self.texts or _texts(self.documents or [])


def _texts(documents: list[str | RerankDocument]) -> list[str]:
    return [document if isinstance(document, str) else document.text for document in documents]


class AllowedPassages(_Strict):
    """Which passages may be found; see `ragvec.remote.part.Allowed`."""

    where: StrictStr | None = Field(None, max_length=LONGEST)
    values: dict[str, FilterValue | Many[FilterValue]] | None = None
    fields: Annotated[Many[StrictStr], Field(max_length=10_000)] = Field(
        default_factory=list, description="That a filter may name because passages elsewhere have them."
    )
    within: StrictStr | None = Field(None, description="A query in the query language whose signs hold.")


class _Shard(_Strict):
    state: StrictStr | None = Field(
        None, max_length=64, description="Of the index, as /shard has told it; 409 where there is another by now."
    )


class ShardWords(_Shard):
    """A query whose words are to be counted."""

    query: StrictStr
    syntax: StrictBool = False


class ShardLexical(ShardWords):
    """A query, and what all that are searched together know of its words: the sums of what /shard/words tells."""

    k: StrictInt = Field(ge=1)
    counts: dict[str, Any]
    allowed: AllowedPassages | None = None


class ShardNear(_Shard):
    """Vectors: float32, little endian, base64. k = their nearest passages; ids = how near these are to the first."""

    vectors: StrictStr
    k: StrictInt | None = Field(None, ge=1)
    ids: Many[StrictInt] | None = None
    allowed: AllowedPassages | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "ShardNear":
        if (self.k is None) == (self.ids is None):
            raise ValueError("send either k or ids")
        return self


class ShardPassages(_Shard):
    """Which passages: by their ids, all of a document, or by their places, ascending, among those that have a vector."""

    ids: Many[StrictInt] | None = None
    places: Many[StrictInt] | None = None
    doc_id: DocId | None = None
    only: Literal["doc_ids", "vectors"] | None = None

    @model_validator(mode="after")
    def _one_of_all(self) -> "ShardPassages":
        if [self.ids, self.places, self.doc_id].count(None) != 2:
            raise ValueError("send one of ids, places, doc_id")
        return self


class DocumentIn(_Strict):
    """A document to add; one of the same doc_id is replaced."""

    doc_id: DocId
    text: CleanText
    title: CleanText = ""
    metadata: dict[str, Any] = Field(default_factory=dict)


class AddRequest(_Strict):
    """Documents to add in one commit."""

    documents: Many[DocumentIn] = Field(min_length=1)
