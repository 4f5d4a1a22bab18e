"""Prompts: instruction out of band, truncation by tokens, and nothing in a user's text that could be taken for syntax."""

import pytest

from ragvec.encoder.prompt import PromptBuilder
from ragvec.encoder.templates import Template, find_template
from ragvec.errors import RagvecError
from tests.tiny import make_tokenizer


def builder(**changes) -> PromptBuilder:
    settings = {"max_length": 32, "doc_max_length": 24, "skip_instruction": True, **changes}
    return PromptBuilder(make_tokenizer(), **settings)


def text_of(ids: list[int]) -> str:
    return make_tokenizer().decode(ids, skip_special_tokens=True)


def test_instruction_and_text_are_joined_by_a_space_and_only_the_text_is_pooled():
    prompts = builder().build(["fox"], "find the animal:")
    assert text_of(prompts.ids[0]) == "find the animal: fox"
    pooled = prompts.ids[0][prompts.pool_starts[0] :]
    assert text_of(pooled).strip() == "fox"
    assert prompts.ids[0][0] == 1, "the tokenizer's own <s> comes first"


def test_without_skip_everything_is_pooled():
    assert builder(skip_instruction=False).build(["fox"], "find:").pool_starts == [0]


def test_separators_in_a_text_are_text():
    text = "a !@#$%^&*() b"
    assert text_of(builder().build([text]).ids[0]) == text


@pytest.mark.parametrize("text", ["東京は日本の首都です。" * 40, "x" * 5000, "word " * 400, "🙂" * 90, "한글" * 200])
def test_long_texts_are_cut_by_tokens_and_counted(text):
    prompts = builder().build([text, "fox"], "find:")
    assert prompts.truncated == [True, False]
    assert len(prompts.ids[0]) <= 32
    pooled = len(prompts.ids[0]) - prompts.pool_starts[0]
    assert 18 <= pooled <= 24, "the text keeps as many tokens as the limits allow"
    assert text.startswith(prompts.texts[0]) and prompts.texts[0]


def test_truncation_leaves_instruction_and_suffix_whole():
    prompts = builder(suffix=" </s>").build(["fox " * 100], "find the animal:")
    assert text_of(prompts.ids[0]).startswith("find the animal: fox")
    assert prompts.ids[0][-1] == 2, "the prompt still ends in </s>"
    assert text_of(prompts.ids[0][prompts.pool_starts[0] :]).lstrip().startswith("fox")


def test_an_instruction_that_fills_the_prompt_is_refused():
    with pytest.raises(RagvecError, match="shorten the instruction"):
        builder().build(["fox"], "find " * 50)


def test_empty_text_has_a_prompt():
    assert builder().build([""]).ids == [[1]]
    prompts = builder().build([""], "find:")
    assert prompts.pool_starts[0] == len(prompts.ids[0]), "nothing of it is text: pooling takes the whole prompt"


def test_no_texts():
    assert builder().build([]).ids == []


def test_a_lone_string_names_the_fix():
    with pytest.raises(TypeError, match=r"\[text\]"):
        builder().build("fox")
    with pytest.raises(TypeError, match="an int: give a string"):
        builder().build([3])


def test_lone_surrogates_are_encoded_as_question_marks():
    assert text_of(builder().build(["a\ud800b"]).ids[0]) == "a?b"


def test_offsets_point_into_the_text():
    build = builder()
    prompts = build.build(["quick fox"], "find:")
    spans = build.offsets("find:", prompts.texts[0])
    assert len(spans) == len(prompts.ids[0])
    pieces = ["quick fox"[start:end] for start, end in spans if end > start]
    assert "".join(pieces) == "quick fox"


def test_templates_are_found_by_name_and_by_path():
    tokenizer = make_tokenizer()
    expected = Template("[INST] ", " [/INST]", " </s>")
    assert find_template("meta-llama/Llama-2-7b-chat-hf", "llama", tokenizer) == expected
    assert find_template("models/meta-llama/Llama-2-7b-chat-hf/", "llama", tokenizer) == expected
    assert find_template("my-own-llama", "llama", tokenizer) == Template("", "", " </s>")
    assert find_template("meta-llama/Meta-Llama-3-8B-Instruct", "llama", tokenizer).eos == ""
