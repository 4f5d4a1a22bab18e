"""Training on GPUs as far as a machine without one can tell: precision of every product, and which GPU is whose."""

import json

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ragvec.errors import WrongInput
from ragvec.train import trainable
from ragvec.train.loss_module import LossModule
from ragvec.train.objectives.language import LanguageBatch, language_loss
from ragvec.train.prepare import prepare
from ragvec.train.ranks import start_ranks
from ragvec.train.recipe import make_recipe
from ragvec.train.trainable import add_trainable_parts, load_learner
from ragvec.train.trainer import _arguments, _float32_products
from tests.cuda import GPU, FakeCuda
from tests.training import LONG_TEXTS, losses, recipe_values, run, vectors, write_data

BATCH = LanguageBatch([[1, 5, 6, 7], [1, 8, 9]], torch.tensor([0, 2, 5]), torch.tensor([5, 7, 9]))


@pytest.fixture
def as_on_gpus(monkeypatch):
    """LoRA layers stay peft's, as they do on a GPU."""
    monkeypatch.setattr(trainable, "quicken", lambda _: None)


class Products(TorchDispatchMode):
    """The dtypes of every product of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.dtypes += [part.dtype for part in args if isinstance(part, torch.Tensor)]
        return func(*args, **(kwargs or {}))


def half_learner(folder, **keys):
    """A bfloat16 base with LoRA upon it, on the CPU."""
    recipe, _ = make_recipe("mntp", {"output_dir": "out", "model_name_or_path": str(folder), "torch_dtype": "bfloat16",
                                     "device": "cpu", "lora_dropout": 0.1, **keys})  # fmt: skip
    learner = load_learner(recipe)
    add_trainable_parts(learner, recipe)
    return learner


@pytest.mark.parametrize("keys", [{}, {"gradient_checkpointing": True}])
def test_nothing_of_lora_makes_a_detour_through_float32(keys, tiny_decoder, as_on_gpus):
    learner = half_learner(tiny_decoder, **keys)
    module = LossModule(learner, language_loss).train()
    taken: list[torch.dtype] = []
    for name, part in learner.backbone.named_modules():
        if name.endswith((".lora_A.default", ".lora_B.default", ".lora_dropout.default")):
            part.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].dtype))
    with Products() as products:
        module(BATCH)["loss"].backward()
    passes = 2 if keys else 1  # recomputed on the way back
    assert len(taken) == passes * 3 * 7 * 2 and set(taken) == {torch.bfloat16}
    assert len(products.dtypes) > 7 * 2 * 3 * 2 and set(products.dtypes) == {torch.bfloat16}
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    assert {weight.dtype for weight in weights} == {weight.grad.dtype for weight in weights} == {torch.float32}


def test_lora_in_bfloat16_learns_what_it_learns_in_float32(tiny_decoder, tmp_path):
    data = write_data(tmp_path)
    keys = {"lora_dropout": 0.0, "max_steps": 6}
    half = run("supervised", tiny_decoder, data, tmp_path / "half", torch_dtype="bfloat16", **keys)
    whole = run("supervised", tiny_decoder, data, tmp_path / "whole", **keys)
    assert losses(half) == pytest.approx(losses(whole), rel=0.1)
    assert losses(half)[-1] < losses(half)[0]
    cosines = (vectors(tmp_path / "half") * vectors(tmp_path / "whole")).sum(axis=1)
    assert cosines.min() > 0.97


def test_a_loss_that_is_not_finite_is_remembered_over_the_batches_of_a_step(tiny_decoder):
    module = LossModule(half_learner(tiny_decoder), language_loss)
    module(BATCH)
    assert bool(module.losses_are_finite)
    module._loss = lambda *_: torch.tensor(float("nan"))
    module(BATCH)
    module._loss = language_loss
    module(BATCH)
    assert not bool(module.losses_are_finite)


LOSSES = {  # objective, and keys: each kind of what a batch holds beside its texts
    "mntp": ("mntp", {}),
    "simcse": ("simcse", {"simcse_dropout": 0.2}),
    "pairs": ("supervised", {"mask_identical": True, "false_negative_margin": 0.1, "matryoshka_dims": [16]}),
    "parts": ("supervised", {"mini_batch_tokens": 40}),
    "graded": ("supervised", {"loss": "cosent", "train_file": "graded.jsonl"}),
    "vectors": ("distill", {"distill_kl": 0.5}),
    "scores": (
        "distill",
        {"train_file": "scored.jsonl", "teacher_vectors": None, "distill_mse": 1.0, "distill_kl": 1.0, "instruction": ""},
    ),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in LOSSES), ("mntp", "bfloat16"), ("simcse", "bfloat16")]
)
def test_a_loss_is_computed_without_waiting_for_the_gpu(name, dtype, tiny_decoder, tmp_path, monkeypatch, as_on_gpus):
    """Everything a batch brings goes through pinned memory, nothing is chosen by a mask, and the loss is the CPU's."""
    objective, keys = LOSSES[name]
    data = write_data(tmp_path)
    scored = [{"query": one, "positive": two, "negatives": LONG_TEXTS[-1 - row :][: 1 + row % 2],
               "scores": [3.0, 1.0, 0.5][: 2 + row % 2]}
              for row, (one, two) in enumerate(zip(LONG_TEXTS, LONG_TEXTS[1:8], strict=False))]  # fmt: skip
    (data / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    values = recipe_values(objective, tiny_decoder, data, tmp_path / "out", torch_dtype=dtype, lora_dropout=0.0, **keys)
    recipe, _ = make_recipe(objective, {key: value for key, value in values.items() if value is not None})
    learner = load_learner(recipe)
    add_trainable_parts(learner, recipe)
    prepared = prepare(recipe, learner)
    module, batch = prepared.module.train(), prepared.batches[0]
    torch.manual_seed(1)
    on_cpu = module(batch)["loss"]
    on_cpu.backward()
    wanted = [weight.grad.flatten() for weight in module.parameters() if weight.requires_grad]
    with FakeCuda(monkeypatch) as fake:
        fake.to_gpu(module)
        learner.device = GPU
        loss = module(batch)["loss"]
        assert fake.waits == []
        loss.backward()
        assert {call["dtype"] for call in fake.calls} == ({torch.bfloat16} if dtype == "bfloat16" else set())
        assert {call["dropout"] for call in fake.calls} <= {0.2 if objective == "simcse" else 0.0}
    found = [weight.grad.as_subclass(torch.Tensor).flatten() for weight in module.parameters() if weight.requires_grad]
    if objective != "simcse":  # whose dropout falls otherwise
        assert loss.as_subclass(torch.Tensor).item() == pytest.approx(on_cpu.item(), rel=1e-4 if dtype == "float32" else 0.02)
        assert torch.cosine_similarity(torch.cat(found), torch.cat(wanted), dim=0) > 0.99
    assert torch.cat(found).norm() > 0


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list:
    """torch says that it has two GPUs; the devices that were made the current one."""
    chosen: list = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(torch.device(device)))
    monkeypatch.setattr("accelerate.state.check_cuda_p2p_ib_support", lambda: True)
    yield chosen
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def second_of_two(two_gpus, monkeypatch: pytest.MonkeyPatch) -> list:
    """The same in the second of two processes of a launcher."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    for name, value in {"LOCAL_RANK": 1, "RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    joined: list = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda **kwargs: joined.append(kwargs["backend"]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: bool(joined))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *_: 1)
    return two_gpus


@pytest.mark.parametrize("named", [None, "cuda"])
def test_each_process_has_the_gpu_of_its_local_rank_and_touches_no_other(named, second_of_two):
    """A tensor on any GPU would fail here, where there is none."""
    assert start_ranks(named) == torch.device("cuda:1")
    assert second_of_two == [torch.device("cuda:1")]


def test_a_gpu_named_for_several_processes_is_refused(second_of_two):
    with pytest.raises(WrongInput, match=r"device 'cuda:0' names one device, but the launcher .* \(this one cuda:1\): write"):
        start_ranks("cuda:0")


def test_a_device_that_is_not_there_is_one_line():
    with pytest.raises(WrongInput, match=r"device 'gpu' can't be used here .*: choose cpu, or leave `device` out"):
        start_ranks("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(WrongInput, match="device 'cuda:1' can't be used here"):
            start_ranks("cuda:1")


@pytest.mark.parametrize("index", [0, 1])
def test_the_trainer_stays_on_the_gpu_that_the_model_is_on(index, two_gpus, tmp_path):
    recipe, _ = make_recipe("mntp", {"output_dir": str(tmp_path), "device": f"cuda:{index}"})
    model = torch.nn.Module()
    with FakeTensorMode():
        model.weight = torch.nn.Parameter(torch.empty(2, device=f"cuda:{index}"))
        arguments = _arguments(recipe, model)
    assert arguments.device == torch.device("cuda", index)
    assert two_gpus[-1] == torch.device("cuda", index)  # accelerate's "cuda" is the current one
    assert arguments.n_gpu == 1
    assert str(arguments.distributed_state.device) == "cuda"


def test_products_in_float32_use_tf32_on_a_gpu_alone():
    before = torch.get_float32_matmul_precision()
    for kind, dtype, wanted in (
        ("cuda", torch.bfloat16, "high"),
        ("cuda", torch.float32, before),
        ("cpu", torch.bfloat16, before),
    ):
        with _float32_products(dtype, torch.device(kind)):
            assert torch.get_float32_matmul_precision() == wanted
        assert torch.get_float32_matmul_precision() == before == "highest"
