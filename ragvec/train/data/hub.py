"""Data sets named as on the Hugging Face hub (dataset_name, dataset_config_name): their Parquet files."""

from pathlib import Path

from ragvec.errors import RagvecError

_MOVED = {"wikitext": "Salesforce/wikitext"}  # the name the reference's configs use


def dataset_files(name: str, config: str | None, split: str, *, optional: bool = False, offline: bool = False) -> list[str]:
    """The Parquet files of a split, downloaded or found in the cache; a local folder works too.

    optional  no files are no error; offline: only the cache is asked
    Raises RagvecError if there is no such data set within reach, it has no Parquet files, or several configurations of which
    none is named.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _download(_MOVED.get(name, name), config, split, offline)
    pattern = f"**/{split}*.parquet" if config is None else f"**/{config}/{split}*.parquet"
    paths = sorted(folder.glob(pattern))
    if not paths and not optional:
        raise RagvecError(f"data set {name} has no {pattern}: download it and name its files in train_file")
    configs = sorted({path.parent.relative_to(folder).as_posix() for path in paths})
    if len(configs) > 1:
        raise RagvecError(
            f'data set {name} has several configurations ({", ".join(configs)}): name one in "dataset_config_name"'
        )
    return [str(path) for path in paths]


def _download(name: str, config: str | None, split: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    pattern = f"*{split}*.parquet" if config is None else f"*{config}/{split}*.parquet"
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=pattern, local_files_only=offline))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise RagvecError(
            f"data set {name} is neither in the hub's cache nor within reach: name a local file in train_file instead"
        ) from error
