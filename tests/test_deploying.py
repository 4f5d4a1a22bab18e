"""What docs/deploying.md gives to copy is sound: the unit and the Dockerfile parse, and start what ragvec takes."""

import configparser
import json
import re
import shlex
import shutil
import subprocess

import pytest
import typer

from ragvec.cli.main import build_app
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "deploying.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    assert len(found) == 1
    return found[0]


def check_command(words: list[str]) -> None:
    """Raises a UsageError for what ragvec does not take."""
    command = typer.main.get_command(build_app(words[0])).commands[words[0]]
    command.make_context(words[0], list(words[1:]))


def test_the_systemd_unit():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read_string(block("ini"))
    service = unit["Service"]
    assert set(unit.sections()) == {"Unit", "Service", "Install"} and service["User"] == "ragvec"
    assert "RAGVEC_API_KEY" not in block("ini")  # a unit can be read by everybody
    program, *words = shlex.split(service["ExecStart"])
    assert program.startswith("/") and service["ProtectSystem"] == "strict"
    index = words[words.index("--index") + 1]
    assert index.startswith(service["ReadWritePaths"] + "/")
    check_command(words)


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", "", block("dockerfile"))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line]


def test_the_dockerfile():
    told = instructions()
    names = [name for name, _ in told]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert names[0] == "FROM" and set(names) <= known and not told[0][1].endswith((":latest", "python"))
    assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")  # what runs is not root
    runs = " ".join(text for name, text in told if name == "RUN")
    assert "torch==" in runs and "-c constraints.txt" in runs and runs.count("pip install") == runs.count("--no-cache-dir")
    values = dict(told)
    words = [*json.loads(values["ENTRYPOINT"]), *json.loads(values["CMD"])]
    assert words[0] == "ragvec"
    check_command(words[1:])
    check = json.loads(values["HEALTHCHECK"].removeprefix("CMD "))
    compile(check[2], "HEALTHCHECK", "exec")
    assert values["EXPOSE"] in check[2]


BUILDER = next(
    (
        name
        for name in ("docker", "podman")
        if shutil.which(name) and not subprocess.call([name, "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ),
    None,
)  # docker's client is nothing without its daemon


@pytest.mark.slow
@pytest.mark.skipif(BUILDER is None, reason="neither docker nor podman runs here")
def test_the_dockerfile_builds(tmp_path):
    (tmp_path / "Dockerfile").write_text(block("dockerfile"), encoding="utf-8")
    build = [str(BUILDER), "build", "-q", "-t", "ragvec-test", "-f", str(tmp_path / "Dockerfile"), str(REPOSITORY)]
    subprocess.run(build, check=True)
    said = subprocess.run([str(BUILDER), "run", "--rm", "ragvec-test", "--version"], check=True, capture_output=True, text=True)
    assert said.stdout.startswith("ragvec ")


def test_the_versions_are_those_of_the_constraints():
    pinned = re.search(r"torch==(\S+)", block("dockerfile")).group(1)
    assert f"torch=={pinned}" in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
