"""`ragvec push`: an encoder on the Hugging Face hub."""

from typing import Annotated

import typer

PAGE = "training.md"
EXAMPLES = ("ragvec push my-encoder organisation/name --license apache-2.0 --language en",)


def run(
    encoder: Annotated[str, typer.Argument(help="What --encoder takes: a folder, or a hub id in the cache.")],
    repo: Annotated[str, typer.Argument(help="organisation/name on the hub; made if it is not there.")],
    license: Annotated[str, typer.Option(help="Of the weights, as the hub spells it: apache-2.0, mit, llama3.1, other …")],
    language: Annotated[list[str] | None, typer.Option(help="Of the texts that it is for: en, ko …; may be repeated.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Hub id of the model it was made from; default: the one that the encoder names.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; otherwise it is private.")] = False,
) -> None:
    """Publish an encoder with a model card, and say where it lies."""
    from ragvec.export import push

    address = push(encoder, repo, license=license, language=language or (), base_model=base_model, public=public)
    typer.echo(f"{encoder}: pushed to {address}")
