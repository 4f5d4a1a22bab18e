"""Takes docs/search-page.png anew: the search page over the sample corpus, served by the bundled encoder, in headless Chromium.

python -m tests.bench.screenshot
"""

import json
import tempfile
import urllib.request
from pathlib import Path

from ragvec.data import data_path
from tests.bench.startup import command
from tests.browser import browsing
from tests.conftest import REPOSITORY
from tests.serving import serving

QUERY = "how do plants make food?"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command("index", data_path("corpus.jsonl"), cwd=folder)
        with serving(cwd=Path(folder)) as server, browsing() as browser:
            for _ in range(20):  # a warm server answers as it does in use
                body = json.dumps({"query": QUERY}).encode()
                urllib.request.urlopen(
                    urllib.request.Request(f"{server.url}/search", body, {"content-type": "application/json"})
                ).close()
            browser.screen(1100, 720)
            browser.open(f"{server.url}/?q={QUERY.replace(' ', '+').replace('?', '%3F')}")
            browser.wait("document.querySelectorAll('.hit').length")
            browser.screenshot(REPOSITORY / "docs" / "search-page.png")


if __name__ == "__main__":
    main()
