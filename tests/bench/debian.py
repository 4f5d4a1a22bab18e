"""A larger real corpus that every Debian machine can make: the descriptions of its packages, from apt's own lists.

    apt-get -o Acquire::Languages=en update
    python -m tests.bench.debian > debian.jsonl

One JSON line a package, about 63,000 of them: _id, title (the name and what it is in a line), text, section, tags, size_kb.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

LANGUAGE = ["-o", "Acquire::Languages=en"]
HELPER = "/usr/lib/apt/apt-helper"


def main() -> None:
    translations = {record["Description-md5"]: record["Description-en"] for record in records("Translations")}
    if not translations:
        sys.exit("no descriptions in apt's lists: run `apt-get -o Acquire::Languages=en update` first")
    seen = set()
    for package in records("Packages"):
        if package["Package"] not in seen and (description := translations.get(package.get("Description-md5", ""))):
            seen.add(package["Package"])
            print(json.dumps(document(package, description), ensure_ascii=False))


def records(kind: str) -> Iterator[dict[str, str]]:
    """The paragraphs of all apt lists of a kind, "Packages" or "Translations", as field → value."""
    ask = ["apt-get", *LANGUAGE, "indextargets", "--format", "$(FILENAME)", f"Created-By: {kind}"]
    for path in subprocess.run(ask, stdout=subprocess.PIPE, text=True, check=True).stdout.split():
        text = subprocess.run([HELPER, "cat-file", path], stdout=subprocess.PIPE, check=True).stdout.decode()
        yield from (parse(paragraph) for paragraph in text.split("\n\n") if paragraph.strip())


def parse(paragraph: str) -> dict[str, str]:
    """The fields of a control paragraph; lines that begin with a space go on with the field before."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.strip("\n").split("\n"):
        if line.startswith(" "):
            fields[name] += "\n" + line[1:]
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def document(package: dict[str, str], description: str) -> dict[str, Any]:
    """A corpus document: the description's paragraphs, "." between them, joined; the rest as metadata."""
    summary, _, rest = description.partition("\n")
    paragraphs = [" ".join(part.split()) for part in rest.split("\n.\n")]
    return {
        "_id": package["Package"],
        "title": f"{package['Package']}: {summary}",
        "text": "\n".join(part for part in paragraphs if part) or summary,
        "section": package.get("Section", "").split("/")[-1],
        "tags": [tag.strip() for tag in package.get("Tag", "").split(",") if tag.strip()],
        "size_kb": int(package.get("Installed-Size", 0)),
    }


if __name__ == "__main__":
    main()
