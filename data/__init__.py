"""What ships with ragvec: the bundled encoder, the sample corpus, the training recipes."""

from pathlib import Path


def data_path(name: str) -> Path:
    """The path of a shipped file or folder, e.g. `data_path("corpus.jsonl")`."""
    return Path(__file__).parent / name
