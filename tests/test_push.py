"""Encoders on a hub: a small server that answers what the hub's HTTP API does, and keeps what is sent to it."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml

from ragvec import Encoder
from ragvec.encoder import EncoderSettings, convert, write_settings
from ragvec.errors import RagvecError
from ragvec.export import push
from tests.layouts import as_snapshot
from tests.tiny import TEXTS
from tests.training import run, vectors, write_data


class Hub(ThreadingHTTPServer):
    """Takes repositories and commits; a name that begins with "other/" is somebody else's."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.made: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.commits = 0


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            self._say(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != "Bearer hf_ours":
            self._say(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            owner, name = self.server.made[-1].get("organization", ""), self.server.made[-1]["name"]
            if owner == "other":
                self._say(403, {"error": "You don't have the rights to create a model under this namespace"})
            else:
                self._say(200, {"url": f"{self.server.url}/{owner}/{name}"})
        elif self.path.endswith("/preupload/main"):
            names = [one["path"] for one in json.loads(body)["files"]]
            self._say(200, {"files": [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in names]})
        elif self.path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            sent = [line["value"] for line in lines if line["key"] == "file"]
            self.server.files = {one["path"]: base64.b64decode(one["content"]) for one in sent}
            self.server.commits += 1
            self._say(200, {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.server.url}/me/x/commit/{'0' * 40}"})
        else:
            self._say(404, {"error": self.path})

    def do_GET(self) -> None:
        self._say(404, {"error": self.path})

    def _say(self, status: int, value: dict) -> None:
        answer = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield server
        server.shutdown()


def card_of(hub: Hub) -> tuple[dict, str]:
    """The values at the head of the card that arrived, and its text."""
    _, head, text = hub.files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(head), text


def arrived(hub: Hub, folder: Path) -> Path:
    for name, content in hub.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def adapter(decoder: Path, folder: Path, base: str) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModel.from_pretrained(decoder), config).save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    write_settings(folder, EncoderSettings(base_model=base, truncate_dim=8, query_instruction="find | it:"))
    for name in ("recipe.json", "training.json", "README.md"):
        (folder / name).write_text("/srv/somebody")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "model.safetensors").write_text("")
    return folder


def test_an_adapter_whose_base_is_a_folder_goes_as_whole_weights(hub, tiny_decoder, tmp_path):
    shutil.copytree(tiny_decoder, tmp_path / "base")
    own = adapter(tiny_decoder, tmp_path / "own", "../base")
    before = Encoder.load(own, device="cpu", dtype="float32").encode_documents(TEXTS)
    address = push(str(own), "me/x", license="apache-2.0", language=["en", "ko"], base_model="org/base", token="hf_ours")
    assert address == f"{hub.url}/me/x" and hub.commits == 1
    assert [(one["organization"], one["name"], one["visibility"]) for one in hub.made] == [("me", "x", "private")]
    assert {*hub.files} == {
        "README.md", "config.json", "model.safetensors", "ragvec.json", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    assert not any(b"/home/" in content or str(tmp_path).encode() in content for content in hub.files.values())
    head, text = card_of(hub)
    assert head == {
        "base_model": "org/base", "base_model_relation": "finetune", "language": ["en", "ko"], "license": "apache-2.0",
        "library_name": "ragvec", "pipeline_tag": "feature-extraction",
        "tags": ["ragvec", "llm2vec", "feature-extraction", "sentence-similarity"],
    }  # fmt: skip
    assert "| before a query | 'find \\| it:' |" in text and "| dimensions kept | 8 |" in text
    shutil.rmtree(tmp_path / "base")
    after = Encoder.load(arrived(hub, tmp_path / "there"), device="cpu", dtype="float32").encode_documents(TEXTS)
    assert after.shape == (len(TEXTS), 8)
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_an_adapter_of_an_encoder_here_is_not_taken_for_one_of_its_decoder(hub, tiny_decoder, tmp_path, monkeypatch):
    """The encoder beside it says that it was made from a model of the hub, and is another folder all the same."""
    as_snapshot(tiny_decoder, tmp_path / "cache", "org/base", monkeypatch)
    convert("org/base", tmp_path / "encoder", offline=True)
    run("supervised", tmp_path / "encoder", write_data(tmp_path), tmp_path / "own")
    before = vectors(tmp_path / "own")
    push(str(tmp_path / "own"), "me/x", license="mit", token="hf_ours")
    assert "adapter_config.json" not in hub.files and card_of(hub)[0]["base_model"] == "org/base"
    shutil.rmtree(tmp_path / "encoder")
    np.testing.assert_allclose(vectors(arrived(hub, tmp_path / "there")), before, atol=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_a_card_names_what_an_encoder_was_trained_from(whole, hub, tiny_decoder, tmp_path, monkeypatch):
    """The model of the hub that the run started from, not the one at the root of its chain."""
    as_snapshot(tiny_decoder, tmp_path / "cache", "org/base", monkeypatch)
    convert("org/base", tmp_path / "encoder", offline=True)
    as_snapshot(tmp_path / "encoder", tmp_path / "cache", "org/encoder", monkeypatch)
    keys = {"lora_r": 0} if whole else {}
    run("supervised", "org/encoder", write_data(tmp_path), tmp_path / "own", offline=True, **keys)
    assert "\nbase_model: org/encoder\n" in (tmp_path / "own" / "README.md").read_text()
    push(str(tmp_path / "own"), "me/x", license="mit", token="hf_ours")
    assert card_of(hub)[0]["base_model"] == "org/encoder"


def test_the_card_of_a_run_names_the_hubs_model_behind_a_folder_here(tiny_decoder, tmp_path, monkeypatch):
    as_snapshot(tiny_decoder, tmp_path / "cache", "org/base", monkeypatch)
    convert("org/base", tmp_path / "encoder", offline=True)
    data = write_data(tmp_path)
    for start, name in ((tmp_path / "encoder", "own"), (tiny_decoder, "other")):
        run("supervised", start, data, tmp_path / name, lora_r=0)
    assert "\nbase_model: org/base\n" in (tmp_path / "own" / "README.md").read_text()
    assert "base_model" not in (tmp_path / "other" / "README.md").read_text().split("---")[1]


def test_no_folder_of_this_machine_is_named(hub, tiny_decoder, tmp_path):
    convert(str(tiny_decoder), tmp_path / "own")
    push(str(tmp_path / "own"), "me/x", license="mit", token="hf_ours")
    assert json.loads(hub.files["ragvec.json"])["base_model"] == "" and "base_model" not in card_of(hub)[0]
    np.testing.assert_array_equal(vectors(arrived(hub, tmp_path / "there")), vectors(tmp_path / "own"))


def test_an_adapter_whose_base_is_on_the_hub_goes_as_it_is(hub, tiny_decoder, tmp_path, monkeypatch):
    as_snapshot(tiny_decoder, tmp_path / "cache", "org/base", monkeypatch)
    own = adapter(tiny_decoder, tmp_path / "own", "org/base")
    push(str(own), "me/x", license="mit", public=True, token="hf_ours")
    assert hub.made[0]["visibility"] == "public"
    assert {*hub.files} == {"README.md", "adapter_config.json", "adapter_model.safetensors", "ragvec.json"}
    head, _ = card_of(hub)
    assert (head["base_model"], head["base_model_relation"]) == ("org/base", "adapter") and "language" not in head
    assert hub.files["adapter_model.safetensors"] == (own / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("repo", "options", "message"),
    [
        ("x", {}, "`repo` 'x' is no name on the hub: give organisation/name"),
        ("me/../x", {}, "is no name on the hub"),
        ("me/x", {"license": ""}, "no `license`: name the licence"),
        ("other/x", {}, r"other/x can't be written to the hub \(.*403.*\): log in"),
        ("me/x", {"token": "hf_wrong"}, r"me/x can't be written to the hub \(.*401.*\): log in"),
    ],
)
def test_what_the_hub_or_we_refuse(repo, options, message, hub, tiny_decoder, tmp_path):
    Encoder.load(tiny_decoder, device="cpu").save(tmp_path / "own")
    with pytest.raises(RagvecError, match=message) as caught:
        push(str(tmp_path / "own"), repo, **{"license": "mit", "token": "hf_ours", **options})
    assert "\n" not in str(caught.value) and hub.commits == 0


def test_the_command(hub, tiny_decoder, tmp_path):
    Encoder.load(tiny_decoder, device="cpu").save(tmp_path / "own")
    ragvec, own = str(Path(sys.executable).parent / "ragvec"), str(tmp_path / "own")
    out = subprocess.run(
        [ragvec, "push", own, "me/x", "--license", "mit", "--language", "en"],
        capture_output=True, text=True,
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_ours", "HF_HUB_OFFLINE": "0"},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert out.stdout == f"{tmp_path / 'own'}: pushed to {hub.url}/me/x\n" and card_of(hub)[0]["language"] == ["en"]
