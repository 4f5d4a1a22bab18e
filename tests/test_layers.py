"""The architecture, held by tests: imports point down only, heavy libraries load late, public names stay."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ragvec

ROOT = Path(__file__).resolve().parent.parent
# Lowest first; a module may import from its own layer and below. Names are modules or packages of ragvec.
LAYERS = [
    {"errors", "arguments", "checked", "lazy", "records", "files", "artefacts", "locks", "progress", "metrics", "notebook",
     "data", "http", "objects"},
    {"corpus", "shards"},
    {"encoder"},
    {"index"},
    {"joint", "remote", "stores"},
    {"retrieve", "ingest", "map"},
    {"answers"},
    {"evaluate", "doctor", "export", "train"},
    {"serve"},
    {"integrations"},
    {"cli"},
]  # fmt: skip
NO_TORCH = LAYERS[0] | LAYERS[1]
HEAVY = {"torch", "transformers", "peft", "faiss", "accelerate", "sentence_transformers"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def sources() -> list[tuple[str, Path]]:
    """(module or package name below ragvec, file) of every file that ships."""
    library = [
        (path.relative_to(ROOT / "ragvec").parts[0].removesuffix(".py"), path) for path in (ROOT / "ragvec").rglob("*.py")
    ]
    return [(name, path) for name, path in library if name != "__init__"] + [
        ("cli", path) for path in (ROOT / "cli").glob("*.py")
    ]


def imports(path: Path) -> set[str]:
    """Dotted names a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(("name", "path"), sources(), ids=lambda value: value.name if isinstance(value, Path) else "")
def test_imports_point_down_only(name, path):
    assert name in LEVEL, f"{path} belongs to no layer: add it to LAYERS"
    for imported in imports(path):
        parts = imported.split(".")
        if parts[0] == "ragvec" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[name], f"{path} imports {imported}, which lies above it"


@pytest.mark.parametrize(("name", "path"), [row for row in sources() if row[0] in NO_TORCH], ids=lambda value: "")
def test_lower_layers_know_no_heavy_library(name, path):
    assert not {imported.split(".")[0] for imported in imports(path)} & HEAVY


@pytest.mark.parametrize("statement", ["import ragvec", "from ragvec.cli.main import main; main(['--help'])"])
def test_nothing_heavy_loads_before_it_is_needed(statement):
    check = "import sys\ntry:\n    {}\nexcept SystemExit:\n    pass\nprint('HEAVY', sorted({} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", check.format(statement, HEAVY)], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "HEAVY []"


def test_no_commands_file_imports_what_takes_long():
    """So that `ragvec COMMAND --help`, and a wrong option, are answered at once."""
    late = HEAVY | {"numpy", "pyarrow", "fastapi"}
    run = (
        "import sys; from importlib import import_module; from ragvec.cli.main import COMMANDS\n"
        "for name in COMMANDS: import_module(f'ragvec.cli.{name}')\n"
        f"print('LATE', sorted({late!r} & sys.modules.keys()))"
    )
    out = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "LATE []"


def test_public_names():
    names = ["Answerer", "Document", "Encoder", "Hit", "Index", "Passage", "RagvecError", "Retriever", "__version__", "ask"]
    assert ragvec.__all__ == names
    for name in ragvec.__all__:
        assert getattr(ragvec, name) is not None
    with pytest.raises(AttributeError, match="Encodr"):
        ragvec.Encodr  # noqa: B018


def test_every_file_is_short_enough_to_read():
    long = {path.name: count for _, path in sources() if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


# how a connection begins is connect.py's, what an index may hold validity.py's
SQL_ROOMS = ("index/store/", "index/connect.py", "index/validity.py", "stores/postgres.py", "stores/values.py")
TRANSACTIONS = {"BEGIN", "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"}
ELSEWHERE = {"machine.py"}  # which tries on a database in memory what SQLite can do


@pytest.mark.parametrize(("name", "path"), sources(), ids=lambda value: value.name if isinstance(value, Path) else "")
def test_sql_stands_in_the_store_alone(name, path):
    if any(room in path.as_posix() for room in SQL_ROOMS) or path.name in ELSEWHERE:
        return
    asked = [
        node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "…"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("execute", "executemany", "executescript")
    ]
    assert set(asked) <= TRANSACTIONS, f"{path}: put it into ragvec/index/store"


def decisions_by_text(path: Path) -> list[int]:
    """Lines that look for words in an exception's text."""

    def is_text(node: ast.AST) -> bool:
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr")
        return named and any(isinstance(part, ast.Name) and part.id in caught for part in ast.walk(node))

    tree = ast.parse(path.read_text(encoding="utf-8"))
    caught = {"error", "warning"} | {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}
    return [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Compare) and any(map(is_text, (node.left, *node.comparators))))
        or (isinstance(node, ast.Subscript) and any(map(is_text, ast.walk(node.value))))
    ]


# torch has a class of error for want of memory on a GPU alone
BY_TEXT = {"budget.py"}


@pytest.mark.parametrize(("name", "path"), sources(), ids=lambda value: value.name if isinstance(value, Path) else "")
def test_no_decision_hangs_on_an_errors_text(name, path):
    """Texts change, hold what users wrote, and may be empty: a class, a code or `first_line` says it."""
    assert not decisions_by_text(path) or path.name in BY_TEXT


# a whole command line may be advised, `ragvec compact --index-key auto`; the one that `ragvec encode` starts is in processes.py
COMMAND_LINES = re.compile(r"`ragvec [^`]*(`|$)")  # an f-string's may go on in another of its parts
STARTS_COMMANDS = {"processes.py"}


@pytest.mark.parametrize(
    ("name", "path"),
    [row for row in sources() if row[0] != "cli"],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_the_library_speaks_of_arguments(name, path):
    """`max_length`, not --max-length, which is the command line's own word: cli/arguments.py translates."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    said = [text for text in texts if re.search(r"(?<![\w-])--[a-z]", COMMAND_LINES.sub("", text))]
    assert not said or path.name in STARTS_COMMANDS, f"{path}: {said}"


POSITIONAL = 4  # beyond it a reader counts commas
# what takes no keywords: torch's kernels and autograd functions, a logger's arguments
NO_KEYWORDS = {"torch.ops.onednn.qlinear_pointwise", "_kernel()", "_HeadCrossEntropy.apply", "_LowRank.apply",
               "ctx.save_for_backward", "_log.warning"}  # fmt: skip
LONGEST_FUNCTION = 60  # lines, without its docstring


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


@pytest.mark.parametrize(("name", "path"), sources(), ids=lambda value: value.name if isinstance(value, Path) else "")
def test_calls_and_functions_are_short_enough_to_read(name, path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    crowded = {ast.unparse(node.func) for node in calls if len(node.args) > POSITIONAL} - NO_KEYWORDS
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not crowded, f"{path}: name the arguments of {crowded}"
    assert not [one.name for one in functions if _lines(one) > LONGEST_FUNCTION], f"{path}: split by meaning"
