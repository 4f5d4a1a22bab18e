"""The endpoint of a language model, as options and as the environment variables that OpenAI's clients read."""

from typing import TYPE_CHECKING, Annotated

import typer

from ragvec.cli.help import ENDPOINT

if TYPE_CHECKING:
    from ragvec.answers import Endpoint

BaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="OPENAI_BASE_URL",
        metavar="URL",
        help="An endpoint that speaks OpenAI's API: http://localhost:11434/v1 (Ollama), :8080/v1 (llama.cpp), :8000/v1 (vLLM).",
        rich_help_panel=ENDPOINT,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        envvar="OPENAI_MODEL", help="Its model; default: the first that it lists.", metavar="NAME", rich_help_panel=ENDPOINT
    ),
]
EndpointKey = Annotated[
    str | None,
    typer.Option(
        envvar="OPENAI_API_KEY",
        show_default=False,
        help="Its key, if it wants one; best set in the environment.",
        rich_help_panel=ENDPOINT,
    ),
]
EndpointTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="How long it may say nothing; default: 300, for models on CPUs.", rich_help_panel=ENDPOINT
    ),
]


def endpoint_of(base_url: str | None, *, model: str | None, api_key: str | None, timeout: float | None) -> "Endpoint":
    """The endpoint that these options name. Raises WrongInput where they name none, or what can't be one."""
    from ragvec.answers import Endpoint
    from ragvec.errors import WrongUsage

    if not base_url:
        raise WrongUsage(
            "no language model is named: set OPENAI_BASE_URL, such as http://localhost:11434/v1 for Ollama, or give `base_url`"
        )
    given = {} if timeout is None else {"timeout": timeout}
    return Endpoint(base_url, model=model, api_key=api_key, **given)
