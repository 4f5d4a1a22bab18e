"""Data sets named as on the Hugging Face hub (dataset_name, dataset_config_name): their Parquet files."""

from pathlib import Path

from ragvec.errors import RagvecError

_MOVED = {"wikitext": "Salesforce/wikitext"}  # the name the reference's configs use


def dataset_files(name: str, config: str | None, split: str) -> list[str]:
    """The Parquet files of a split, downloaded or found in the cache; a local folder works too.

    Raises RagvecError if there is no such data set within reach, or it has no Parquet files.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _download(_MOVED.get(name, name), config, split)
    pattern = f"**/{split}*.parquet" if config is None else f"**/{config}/{split}*.parquet"
    found = sorted(str(path) for path in folder.glob(pattern))
    if not found:
        raise RagvecError(f"data set {name} has no {pattern}: download it and name its files in train_file")
    return found


def _download(name: str, config: str | None, split: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    pattern = f"*{split}*.parquet" if config is None else f"*{config}/{split}*.parquet"
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=pattern))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise RagvecError(
            f"data set {name} is neither in the hub's cache nor within reach: name a local file in train_file instead"
        ) from error
