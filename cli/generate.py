"""`ragvec generate`: questions to an index's passages, for `ragvec eval`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ragvec.cli.endpoint_options import BaseUrl, EndpointKey, EndpointTimeout, ModelName, endpoint_of
from ragvec.cli.filter_values import WhereValues
from ragvec.cli.search import IndexFolder, Where

PAGE = "evaluation.md"
EXAMPLES = (
    "export OPENAI_BASE_URL=http://localhost:11434/v1",
    "ragvec generate questions -n 50",
    "ragvec eval questions --mode dense --mode lexical --mode hybrid",
)


def run(
    folder: Annotated[Path, typer.Argument(help="BEIR folder to write; one that was begun goes on.")],
    index: IndexFolder = Path("ragvec-index"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Questions.")] = 100,
    where: Where = None,
    where_values: WhereValues = None,
    seed: Annotated[int, typer.Option(help="Draws the passages.")] = 0,
    base_url: BaseUrl = None,
    model: ModelName = None,
    api_key: EndpointKey = None,
    timeout: EndpointTimeout = None,
) -> None:
    """Have a language model write questions, and say how to evaluate with them."""
    endpoint = endpoint_of(base_url, model=model, api_key=api_key, timeout=timeout)
    from ragvec.evaluate.questions import generate_questions

    made = generate_questions(
        index, folder, endpoint, count=count, where=where, where_values=where_values, seed=seed, show_progress=True
    )
    print(
        f"{folder}: {made.questions:,} questions ({made.new:,} new; {made.passed_over:,} passages gave none) "
        f"over {made.documents:,} documents\n"
        f"ragvec eval {folder} --mode dense --mode lexical --mode hybrid"
    )


def goes_on(**_: Any) -> str:
    """What an interruption leaves: the questions written so far, to which the next run adds."""
    return "the same command goes on where it stopped"
