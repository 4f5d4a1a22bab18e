"""An encoder published on the Hugging Face hub, with a card that says what it is."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ragvec.encoder.settings import SETTINGS_FILE, EncoderSettings, read_settings, write_settings
from ragvec.encoder.sources import ADAPTER_FILE, HUB_ID, adapter_needs, locate, names_hub
from ragvec.errors import RagvecError, WrongUsage, first_line
from ragvec.export.layouts import export

# What loads, the settings aside; a run's checkpoints, and its recipe, which names folders of this machine, stay here.
_PUBLISHED = re.compile(
    r"(generation_|adapter_)?config\.json|(adapter_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"
    r"|tokenizer.*\.(json|model)|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt"
    r"|projection-\d+/(config\.json|model\.safetensors)|chat_template\.jinja"
)


def push(
    source: str,
    repo: str,
    *,
    license: str,
    language: Sequence[str] = (),
    base_model: str | None = None,
    public: bool = False,
    token: str | None = None,
) -> str:
    """Publish an encoder as a repository on the hub, in one commit, and return its address.

    source      what `Encoder.load` takes. An adapter goes as it is if the hub has all that its folder names, else as whole
                weights; so does what is no folder of ragvec's
    repo        "organisation/name"; a new one is private unless public, an existing one stays as it is
    license     of the weights, as the hub spells it ("apache-2.0"); language: of the texts it is for, such as "en", "ko"
    base_model  hub id of the model it was made from; None = what the encoder says, where that is a hub id
    token       of the hub; None = the one that `hf auth login` or HF_TOKEN left
    Raises RagvecError if the encoder can't be loaded, a value is missing, or the hub refuses something.
    """
    if not HUB_ID.fullmatch(repo):
        raise WrongUsage(f"`repo` {repo!r} is no name on the hub: give organisation/name")
    if not license:
        raise WrongUsage("no `license`: name the licence of the weights as the hub spells it, such as apache-2.0, or other")
    locate(source, offline=True)
    own = Path(source).expanduser()
    is_own, is_adapter = (own / SETTINGS_FILE).is_file(), (own / ADAPTER_FILE).is_file()
    needed = adapter_needs(own) if is_own and is_adapter else ()
    stands = is_own and all(names_hub(name, own) for name in needed)
    with tempfile.TemporaryDirectory(prefix="ragvec-push-") as name:
        folder = own
        if not stands:
            folder = Path(name) / "encoder"
            export(source, "ragvec", folder, offline=True)
        settings = read_settings(folder)
        made_from = next(iter(needed), settings.base_model) if stands else settings.base_model
        base = base_model or (made_from if names_hub(made_from, own) else None)
        card = _card(repo, settings, license=license, language=language, base=base, adapter=is_adapter and stands)
        if not names_hub(settings.base_model, own):  # a folder of this machine
            settings = replace(settings, base_model=base or "", base_revision=None)
        write_settings(Path(name), settings)
        return _commit(repo, folder, card, Path(name) / SETTINGS_FILE, public=public, token=token)


def _card(
    repo: str, settings: EncoderSettings, *, license: str, language: Sequence[str], base: str | None, adapter: bool
) -> str:
    from huggingface_hub import ModelCardData

    head = ModelCardData(
        base_model=base,
        base_model_relation=None if base is None else "adapter" if adapter else "finetune",
        language=list(language) or None,
        license=license,
        library_name="ragvec",
        pipeline_tag="feature-extraction",
        tags=["ragvec", "llm2vec", "feature-extraction", "sentence-similarity"],
    )
    rows = {
        "pooling": settings.pooling,
        "attention": settings.attention,
        "longest prompt, longest document": f"{settings.max_length:,}, {settings.doc_max_length:,} tokens",
        "before a query": repr(settings.query_instruction) if settings.query_instruction else "nothing",
        "before a document": repr(settings.document_instruction) if settings.document_instruction else "nothing",
        **({} if settings.truncate_dim is None else {"dimensions kept": f"{settings.truncate_dim:,}"}),
    }
    made_of = "" if base is None else f", made from [{base}](https://huggingface.co/{base})"
    lines = [
        "---", head.to_yaml(), "---", "", f"# {repo.split('/')[1]}", "",
        f"A text encoder for [ragvec](https://pypi.org/project/ragvec/){made_of}.", "",
        "| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), "",
        "```python", "from ragvec import Encoder", "",
        f'encoder = Encoder.load("{repo}")',
        'queries = encoder.encode_queries(["how do plants make food?"])',
        'documents = encoder.encode_documents(["Photosynthesis turns light into sugar."])', "```",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def _files(folder: Path) -> Iterator[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    yield from sorted(name for name in names if _PUBLISHED.fullmatch(name))


def _commit(repo: str, folder: Path, card: str, settings: Path, *, public: bool, token: str | None) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    files: list[CommitOperationAdd] = [CommitOperationAdd(name, str(folder / name)) for name in _files(folder)]
    files += [CommitOperationAdd(SETTINGS_FILE, str(settings)), CommitOperationAdd("README.md", card.encode())]
    hub = HfApi(token=token, library_name="ragvec")
    try:
        made = hub.create_repo(repo, private=not public, exist_ok=True)
        hub.create_commit(repo, files, commit_message="Encoder, pushed by ragvec")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise RagvecError(
            f"{repo} can't be written to the hub ({first_line(error)}): log in (`hf auth login`, or HF_TOKEN) with a token "
            "that may write there"
        ) from error
    return str(made)
