"""`ragvec info`: what it says about encoders, shards and everything else."""

import json

import pytest
from safetensors import safe_open

from ragvec.cli.info import readable
from tests.test_cli_encode import ragvec
from tests.test_shards import make


def test_shards(capsys, tmp_path):
    folder = make(tmp_path / "s")
    code, out, err = ragvec(capsys, "info", folder)
    described = json.loads(out)
    assert (code, err, described["kind"], described["rows"], len(described["parts"])) == (0, "", "shards", 3, 1)
    code, out, _ = ragvec(capsys, "info", folder, "--format", "table")
    lines = out.splitlines()
    assert lines[0] == "kind                 shards"
    assert (
        f"encoder fingerprint  {'ab' * 16}" in lines
        and "parts                1" in lines
        and "normalized           no" in lines
    )


def test_an_encoder(capsys, tiny_decoder):
    code, out, _ = ragvec(capsys, "info", tiny_decoder)
    described = json.loads(out)
    assert (code, described["kind"], described["architecture"], described["dimension"]) == (0, "encoder", "llama", 32)
    assert (described["layers"], described["weights_dtype"], described["pooling"]) == (2, "F32", "mean")
    with safe_open(tiny_decoder / "model.safetensors", "np") as weights:
        assert described["parameters"] == sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118


def test_a_converted_encoder_shows_the_fingerprint_it_has_when_loaded(capsys, tmp_path, tiny_decoder):
    from ragvec.encoder import Encoder, convert

    convert(str(tiny_decoder), tmp_path / "e")
    code, out, _ = ragvec(capsys, "info", tmp_path / "e")
    assert (code, json.loads(out)["fingerprint"]) == (0, Encoder.load(tmp_path / "e").fingerprint)


def test_an_index(capsys, tmp_path, tiny_decoder):
    from ragvec import Document, Encoder, Index

    with Index.create(tmp_path / "i", encoder=Encoder.load(tiny_decoder)) as index:
        index.add([Document("1", "plants make food")])
    code, out, _ = ragvec(capsys, "info", tmp_path / "i")
    described = json.loads(out)
    assert (code, described["kind"], described["documents"], described["dimension"]) == (0, "index", 1, 32)
    assert ragvec(capsys, "info", tmp_path / "i", "--format", "table")[1].startswith("kind")


def test_what_is_none_of_them(capsys, tmp_path):
    code, out, err = ragvec(capsys, "info", tmp_path / "no")
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path / 'no'} does not exist: name an encoder, shards or an index\n"
    code, _, err = ragvec(capsys, "info", tmp_path)
    assert code == 1 and err.startswith(f"error: {tmp_path} holds no encoder (config.json), shards (manifest.json) or index")
    (tmp_path / "manifest.json").write_text("{")
    assert "is damaged" in ragvec(capsys, "info", tmp_path)[2]


def test_readable_aligns_and_unfolds():
    described = {"kind": "x", "encoder": {"source": ""}, "bytes": 1_500_000, "parts": [{}, {}], "segments": [{"rows": 1000}]}
    assert readable(described) == [
        "kind            x",
        "encoder source  -",
        "size            1.5 MB",
        "parts           2",
        "segments        rows 1,000",
    ]


@pytest.mark.parametrize(("count", "text"), [(999, "999 bytes"), (1000, "1.0 kB"), (2.5e12, "2.5 TB")])
def test_sizes(count, text):
    assert readable({"bytes": count}) == [f"size  {text}"]
