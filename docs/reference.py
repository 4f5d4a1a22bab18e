"""Write docs/api.md and docs/cli.md from the docstrings and the help: `python docs/reference.py`.

A test compares what it would write with what lies there, so the pages are never older than the code.
"""

import inspect
import os
import re
import subprocess
import sys
from functools import cached_property
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH = 100

# Module → its public names, in the order of a reader's way.
API = {
    "ragvec": ["ask", "Answerer", "Encoder", "Index", "Retriever", "Document", "Passage", "Hit", "RagvecError"],
    "ragvec.errors": ["WrongInput", "WrongUsage", "NotFound", "Busy", "Damaged"],
    "ragvec.encoder": ["convert", "EncoderSettings"],
    "ragvec.index": ["IndexSettings", "ChangeReport"],
    "ragvec.retrieve": ["Request", "open_retriever", "load_reranker"],
    "ragvec.retrieve.context": ["build_context"],
    "ragvec.retrieve.lookup": ["stored_documents", "stored_count", "distinct_values"],
    "ragvec.retrieve.overview": ["overview"],
    "ragvec.retrieve.similar": ["similar_documents"],
    "ragvec.map": ["make_map", "read_map", "CorpusMap"],
    "ragvec.retrieve.templates": ["Template"],
    "ragvec.answers": ["Endpoint", "EndpointFailed", "Answer", "Reply", "Source"],
    "ragvec.corpus": ["read_documents"],
    "ragvec.corpus.passages": ["CorpusOptions"],
    "ragvec.ingest": ["encode_corpus"],
    "ragvec.ingest.build": ["build", "BuildReport"],
    "ragvec.shards": ["Shards"],
    "ragvec.train": ["train"],
    "ragvec.export": ["export", "push"],
    "ragvec.evaluate": ["evaluate"],
}


def api_page() -> str:
    """docs/api.md."""
    parts = [
        "# Python API",
        "Made from the docstrings by `python docs/reference.py`. What is not here may change without a word.",
    ]
    for module, names in API.items():
        parts.append(f"## {module}")
        parts += [_entry(module, name) for name in names]
    return "\n\n".join(parts) + "\n"


def cli_page() -> str:
    """docs/cli.md."""
    from ragvec.cli.main import COMMANDS

    parts = ["# Commands", "Made from the help by `python docs/reference.py`.", f"```\n{_help()}\n```"]
    parts += [f"## ragvec {name}\n\n```\n{_help(name)}\n```" for name in COMMANDS]
    return "\n\n".join(parts) + "\n"


def _entry(module: str, name: str) -> str:
    value = getattr(import_module(module), name)
    parts = [f"### {name}", f"```python\n{_signature(name, value)}\n```", _prose(value)]
    for method, function in vars(value).items() if inspect.isclass(value) else ():
        function = getattr(value, method) if isinstance(function, (classmethod, staticmethod)) else function
        is_property = isinstance(function, (property, cached_property))
        if not method.startswith("_") and inspect.getdoc(function) and (callable(function) or is_property):
            signature = f"{name}.{method}" if is_property else _signature(f"{name}.{method}", function)
            parts += [f"#### {name}.{method}", f"```python\n{signature}\n```", _prose(function)]
    return "\n\n".join(parts)


def _signature(name: str, value) -> str:
    """The call, on one line or with one argument a line."""
    if inspect.isclass(value) and issubclass(value, Exception):
        return f"{name}(message)"
    signature = inspect.signature(value)
    arguments = [str(p) for p in signature.parameters.values() if p.name not in ("self", "cls")]
    stars = next((place for place, p in enumerate(signature.parameters.values()) if p.kind is p.KEYWORD_ONLY), None)
    if stars is not None and not any(argument.startswith("*") for argument in arguments):
        skipped = sum(p.name in ("self", "cls") for p in signature.parameters.values())
        arguments.insert(stars - skipped, "*")
    returns = "" if signature.return_annotation is signature.empty else f" -> {_annotation(signature.return_annotation)}"
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){returns}"
    line = re.sub(r"<function (.+?) at 0x\w+>", r"\1", line)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", line)  # a class by its name, whatever module it is from


def _annotation(value) -> str:
    return value if isinstance(value, str) else inspect.formatannotation(value)


def _prose(value) -> str:
    """The first paragraph as text, the rest (tables of arguments) as it is set."""
    text = inspect.getdoc(value) or ""
    first, _, rest = text.partition("\n\n")
    return first.strip() + (f"\n\n```text\n{rest.rstrip()}\n```" if rest.strip() else "")


def _help(*command: str) -> str:
    words = [sys.executable, "-c", "from ragvec.cli.main import main; main()", *command, "--help"]
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


PAGES = {"api.md": api_page, "cli.md": cli_page}


def main(check: bool) -> int:
    """Write the pages, or only say which are older than the code; 1 if any is."""
    stale = 0
    for name, make in PAGES.items():
        page, path = make(), HERE / name
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != page:
                stale = 1
                print(f"docs/{name} is older than the code: run `python docs/reference.py`")
        else:
            path.write_text(page, encoding="utf-8")
            print(f"docs/{name}")
    return stale


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
