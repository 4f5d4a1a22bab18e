"""Adapters know the base weights they were trained on, and ship under a name."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from ragvec import Encoder, RagvecError
from ragvec.cli.main import main
from ragvec.encoder import convert
from ragvec.encoder.base_weights import weights_name
from ragvec.encoder.sources import locate
from ragvec.train.recipe import read_recipe
from tests.layouts import as_snapshot, save_layout
from tests.tiny import TEXTS, save_tiny_decoder
from tests.training import run, vectors, write_data

RECIPE = Path(__file__).resolve().parent.parent / "data" / "recipes" / "smollm2"


@pytest.fixture(scope="module")
def trained(tiny_decoder, tmp_path_factory) -> Path:
    """An adapter of a first stage (`first`), and one of a second upon it (`second`), with instructions of their own."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_data(folder)
    run("mntp", tiny_decoder, data, folder / "first", mask_token="a")
    run("supervised", folder / "first", data, folder / "second", instruction="Q:", pooling_mode="weighted_mean")
    return folder


@pytest.fixture
def other(tmp_path) -> Path:
    """A decoder of the same shape with other weights."""
    return save_tiny_decoder(tmp_path / "other", initializer_range=0.1)


def changed(base: Path, folder: Path) -> Path:
    """A copy of a decoder in which training has moved the last row of one matrix."""
    model = AutoModel.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        model.layers[1].mlp.up_proj.weight[-1] += 0.1
    model.save_pretrained(folder)
    for path in base.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder


def test_copies_of_weights_have_one_name(tiny_decoder, tmp_path):
    name = weights_name(tiny_decoder)
    whole = AutoModelForCausalLM.from_pretrained(tiny_decoder, dtype=torch.float32)
    whole.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    AutoModel.from_pretrained(tiny_decoder, dtype=torch.float32).save_pretrained(tmp_path / "headless")
    AutoModel.from_pretrained(tiny_decoder, dtype=torch.bfloat16).save_pretrained(tmp_path / "bfloat16")
    convert(str(tiny_decoder), tmp_path / "converted")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    assert {weights_name(tmp_path / copy) for copy in ("parts", "headless", "bfloat16", "converted")} == {name}
    assert len(name) == 16 and weights_name(changed(tiny_decoder, tmp_path / "changed")) != name


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "opt", "bloom"])
def test_copies_have_one_name_whatever_a_family_calls_its_weights(kind, tmp_path):
    sizes = {"gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4}, "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32}}
    base = save_tiny_decoder(tmp_path / "base", kind, **sizes.get(kind, {}))
    AutoModel.from_pretrained(base, dtype=torch.float32).save_pretrained(tmp_path / "headless")
    assert weights_name(tmp_path / "headless") == weights_name(base)


def test_weights_that_cannot_be_read(tmp_path):
    with pytest.raises(RagvecError, match="model.safetensors can't be read"):
        weights_name(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../b.safetensors"}}))
    with pytest.raises(RagvecError, match="leads out of the folder"):
        weights_name(tmp_path)


def test_an_adapter_is_not_stacked_on_other_weights(tiny_decoder, trained, tmp_path):
    """Where base and adapter are given, and where the base that an adapter names has been trained on."""
    moved = changed(tiny_decoder, tmp_path / "moved")
    held, wanted = weights_name(moved), weights_name(tiny_decoder)
    first = trained / "first"
    with pytest.raises(RagvecError, match=rf"was trained on the base weights {wanted}, and .*moved holds {held}: .*README.md"):
        Encoder.load(moved, adapters=[first], device="cpu")
    shutil.copytree(first, tmp_path / "copy")
    record = json.loads((first / "adapter_config.json").read_text())
    (tmp_path / "copy" / "adapter_config.json").write_text(json.dumps({**record, "base_model_name_or_path": str(moved)}))
    with pytest.raises(RagvecError, match="was trained on the base weights"):
        Encoder.load(tmp_path / "copy", device="cpu")
    np.testing.assert_array_equal(vectors(tiny_decoder, adapters=[first]), vectors(first))


def test_what_an_adapter_is_read_with_goes_where_it_is_stacked(tiny_decoder, trained, tmp_path):
    """The second stage is stacked on the first, in one folder or not."""
    stages = [trained / "first", trained / "second"]
    stacked = Encoder.load(tiny_decoder, adapters=stages, device="cpu", dtype="float32")
    assert (stacked.settings.pooling, stacked.settings.query_instruction) == ("weighted_mean", "Q:")
    np.testing.assert_allclose(stacked.encode_documents(TEXTS), vectors(stages[1]), atol=1e-6)
    Encoder.load(stages[0], device="cpu", dtype="float32").save(tmp_path / "merged")
    np.testing.assert_allclose(vectors(tmp_path / "merged", adapters=[stages[1]]), vectors(stages[1]), atol=1e-6)


@pytest.fixture
def shipping(trained, tmp_path, monkeypatch) -> Path:
    """An adapter that ships as `small`, whose base is not at hand; the folder that data come from."""
    adapter = tmp_path / "data" / "adapters" / "small"
    shutil.copytree(trained / "first", adapter)
    record = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**record, "base_model_name_or_path": "organisation/base"}))
    monkeypatch.setattr("ragvec.data.data_path", lambda name: tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_adapter_that_ships_is_loaded_by_its_name(shipping, tiny_decoder, trained):
    with pytest.raises(RagvecError, match="no folder organisation/base, and the hub's copy is neither in the local cache"):
        Encoder.load("small", device="cpu")
    shutil.copytree(tiny_decoder, shipping / "organisation" / "base")
    np.testing.assert_array_equal(vectors("small"), vectors(trained / "first"))
    for name in ("smal", "../small", "adapters/small", "", ".", "sm\0all"):
        with pytest.raises(RagvecError):
            Encoder.load(name, device="cpu")


def test_a_folder_of_the_name_goes_before_what_ships(shipping, other):
    shutil.copytree(other, shipping / "small")
    np.testing.assert_array_equal(vectors("small"), vectors(other))


def command(*words: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_a_base_made_elsewhere_and_the_adapter_become_an_encoder(shipping, tiny_decoder, other, trained, capsys):
    assert command("convert", tiny_decoder, "--adapter", "small", "-o", "made") == 0
    np.testing.assert_allclose(vectors("made"), vectors(trained / "first"), atol=1e-6)
    capsys.readouterr()
    assert command("convert", other, "--adapter", "small", "-o", "wrong") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"and {other} holds {weights_name(other)}" in error
    assert not Path("wrong").exists()


def test_training_goes_on_from_what_ships(shipping, tiny_decoder, trained):
    shutil.copytree(tiny_decoder, shipping / "organisation" / "base")
    run("supervised", "small", trained, shipping / "tuned")
    assert json.loads((shipping / "tuned" / "ragvec.json").read_text())["adapters"] == ["small"]
    assert np.abs(vectors("tuned") - vectors("small")).max() > 1e-3


def script(name: str):
    """A script of the SmolLM2 recipe as a module."""
    spec = importlib.util.spec_from_file_location(name, RECIPE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stages_are_joined_to_one_adapter(trained, tiny_decoder, tmp_path, monkeypatch, capsys):
    command = ["join.py", str(trained / "second"), "-o", str(tmp_path / "joined"), "--dtype", "float32"]
    monkeypatch.setattr("sys.argv", command)
    script("join").main()
    name = weights_name(tiny_decoder)
    assert capsys.readouterr().out == f"{tmp_path / 'joined'}: rank 32 of 2 stages, upon the base weights {name}\n"
    encoder = Encoder.load(tmp_path / "joined", device="cpu", dtype="float32")
    assert (encoder.settings.pooling, encoder.settings.base_weights) == ("weighted_mean", name)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), vectors(trained / "second"), atol=1e-6)
    monkeypatch.setattr("sys.argv", [*command[:-2], "--base", "organisation/base"])
    script("join").main()
    found = load_file(tmp_path / "joined" / "adapter_model.safetensors")
    assert {weight.dtype for weight in found.values()} == {torch.bfloat16}
    assert (
        json.loads((tmp_path / "joined" / "adapter_config.json").read_text())["base_model_name_or_path"] == "organisation/base"
    )
    near = vectors(tiny_decoder, adapters=[tmp_path / "joined"])
    np.testing.assert_allclose(near, vectors(trained / "second"), atol=2e-2)


@pytest.mark.parametrize("path", sorted(RECIPE.glob("*.json")), ids=lambda path: path.stem)
def test_the_recipe_says_nothing_in_vain(path):
    _, notes = read_recipe(path.stem.partition("-")[2], path)
    assert notes == []


def test_a_teacher_is_cut_to_the_dimensions_that_hold_most(monkeypatch):
    prepare = script("prepare")
    monkeypatch.setattr(prepare, "DIMENSIONS", 2)
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(50, 2)) @ chance.normal(size=(2, 6)) + 1e-6 * chance.normal(size=(50, 6))
    kept = prepare.principal(vectors.astype(np.float32))
    assert kept.shape == (50, 2)
    np.testing.assert_allclose(kept @ kept.T, vectors @ vectors.T, atol=1e-3)
    assert list(prepare.until(5, [{"text": "abc"}, {"text": "def"}, {"text": "g"}])) == [{"text": "abc"}, {"text": "def"}]


def test_an_adapter_names_what_it_was_trained_upon(tiny_decoder, tmp_path, monkeypatch):
    """An encoder of the hub, not the decoder that it was made from; at the revision it was taken at."""
    hub, data = tmp_path / "hub", write_data(tmp_path)
    as_snapshot(tiny_decoder, hub, "org/base", monkeypatch)
    convert("org/base", tmp_path / "encoder", offline=True)
    as_snapshot(tmp_path / "encoder", hub, "me/tuned", monkeypatch)
    run("supervised", tmp_path / "encoder", data, tmp_path / "whole", lora_r=0)
    as_snapshot(tmp_path / "whole", hub, "me/tuned", monkeypatch, revision="2" * 40)
    run("supervised", "me/tuned", data, tmp_path / "own", model_revision="2" * 40, offline=True)
    told = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["revision"]) == ("me/tuned", "2" * 40)
    found = locate(str(tmp_path / "own"), offline=True)
    assert (found.settings.base_model, found.settings.base_revision) == ("me/tuned", "2" * 40)
    np.testing.assert_allclose(vectors(tmp_path / "own"), vectors(tmp_path / "whole", adapters=[tmp_path / "own"]), atol=1e-6)


@pytest.mark.parametrize("within", [False, True])
def test_the_revision_of_a_sentence_transformers_repository_is_kept(within, tmp_path, monkeypatch):
    hub, made = tmp_path / "hub", save_layout("weighted-mean", tmp_path / "made")
    if within:  # its transformer lies in a folder of its own
        (made / "0_Transformer").mkdir()
        for path in [*made.glob("*.safetensors"), *made.glob("tokenizer*"), made / "config.json"]:
            path.rename(made / "0_Transformer" / path.name)
        modules = json.loads((made / "modules.json").read_text())
        (made / "modules.json").write_text(json.dumps([{**modules[0], "path": "0_Transformer"}, *modules[1:]]))
    as_snapshot(made, hub, "me/st", monkeypatch)
    path = next(made.rglob("model.safetensors"))
    save_file({name: 1.1 * weight for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
    as_snapshot(made, hub, "me/st", monkeypatch, revision="2" * 40)
    run("supervised", "me/st", write_data(tmp_path), tmp_path / "own", model_revision="2" * 40, offline=True)
    assert json.loads((tmp_path / "own" / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/st"
    np.testing.assert_allclose(vectors(tmp_path / "own"), vectors(made, adapters=[tmp_path / "own"]), atol=1e-6)


def test_the_revision_of_an_adapter_is_kept_where_another_is_trained_upon_it(tiny_decoder, trained, tmp_path, monkeypatch):
    for number in (1, 2):
        made = tmp_path / f"first-{number}"
        shutil.copytree(trained / "first", made)
        record = json.loads((made / "adapter_config.json").read_text())
        (made / "adapter_config.json").write_text(json.dumps({**record, "base_model_name_or_path": str(tiny_decoder)}))
        weights = load_file(made / "adapter_model.safetensors")
        save_file({name: number * weight for name, weight in weights.items()}, made / "adapter_model.safetensors")
        as_snapshot(made, tmp_path / "hub", "me/first", monkeypatch, revision=f"{number}" * 40)
    run("supervised", "me/first", write_data(tmp_path), tmp_path / "own", model_revision="2" * 40, offline=True)
    found = locate(str(tmp_path / "own"), offline=True)
    assert found.settings.adapters[0] == f"me/first@{'2' * 40}" and found.adapters[0].name == "2" * 40


def test_an_adapter_that_is_switched_to_is_asked_what_it_was_trained_upon(tiny_decoder, trained, other):
    first, second = trained / "first", trained / "second"
    with pytest.raises(RagvecError, match="was trained on the base weights"):
        Encoder.load(other, device="cpu").load_adapter(first, "x")
    with pytest.raises(RagvecError, match=r"second was trained upon \.\./first, and .* holds the weights before that: load"):
        Encoder.load(tiny_decoder, device="cpu").load_adapter(second, "x")
    with pytest.raises(RagvecError, match="holds the weights before that"):
        Encoder.load(tiny_decoder, adapters=[second], device="cpu")
    with pytest.raises(RagvecError, match="holds the weights before that"):  # the first is switched off
        Encoder.load(tiny_decoder, adapters=[first], merge=False, device="cpu").load_adapter(second, "x")
    encoder = Encoder.load(first, device="cpu", dtype="float32", pooling="weighted_mean")
    encoder.load_adapter(second, "x")
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), vectors(second), atol=1e-6)


def test_another_first_stage_is_not_taken_for_the_one_before(tiny_decoder, trained, tmp_path):
    shutil.copytree(trained / "first", tmp_path / "moved")
    stacked = vectors(tiny_decoder, adapters=[tmp_path / "moved", trained / "second"])
    np.testing.assert_allclose(stacked, vectors(trained / "second"), atol=1e-6)
    path = tmp_path / "moved" / "adapter_model.safetensors"
    save_file({name: 2 * weight for name, weight in load_file(path).items()}, path)
    with pytest.raises(RagvecError, match=r"second was trained upon .*first, not upon .*moved: load it by its own name"):
        vectors(tiny_decoder, adapters=[tmp_path / "moved", trained / "second"])
