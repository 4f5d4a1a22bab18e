"""The run itself, on the Hugging Face Trainer: checkpoints, signals, and the reasons for which a run stops."""

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainingArguments

from ragvec.encoder.weights import quiet
from ragvec.errors import RagvecError, first_line
from ragvec.train import ranks
from ragvec.train.checkpoints import CHECKPOINTS, Entry, newest_checkpoint, read_state, remove_torn_checkpoints
from ragvec.train.loss_module import LossModule
from ragvec.train.optimizer import make_optimizer
from ragvec.train.prepare import Prepared
from ragvec.train.recipe import Recipe
from ragvec.train.shard import WholeOptimizerState, gather, shard
from ragvec.train.watch import Watch, only_figures

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_trainer(
    prepared: Prepared,
    recipe: Recipe,
    *,
    steps: int,
    checkpoint: Path | None,
    report: Callable[[str], None],
    show_progress: bool,
    on_save: Callable[[list[Entry]], None],
    seconds: Callable[[], float],
) -> list[Entry]:
    """Train, from a checkpoint if one is given, and return the log: a dict for each logged step.

    on_save  is given the log so far whenever a checkpoint has been written; seconds: tells how long the run has taken
    Raises KeyboardInterrupt after SIGINT or SIGTERM, once the step under way is finished and its checkpoint is written;
    RagvecError for a loss that is not finite, a checkpoint that can't be written, or too little memory.
    """
    module = prepared.module
    if checkpoint is not None and (state := read_state(checkpoint))["global_step"] >= steps:
        module.load_state_dict(load_file(checkpoint / "model.safetensors"))  # the Trainer would take a step more
        return only_figures(state["log_history"])
    watch = Watch(prepared, recipe, steps=steps, report=report, show=show_progress, on_save=on_save, seconds=seconds)
    sharded = recipe.fsdp and ranks.world() > 1
    if sharded:
        shard(module, module.learner.backbone)
    optimizer = make_optimizer(module, recipe)
    trainer = Trainer(
        model=module,
        args=_arguments(recipe, module),
        train_dataset=prepared.batches,
        data_collator=lambda entries: {"batch": entries[0]},  # an entry is a whole batch already
        optimizers=(optimizer, None),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    watch.log = trainer.log
    if sharded:
        trainer.accelerator.prepare_model = lambda model, **_: model  # it is spread over the processes already
        watch.optimizer_state = WholeOptimizerState(optimizer)
    module.train()
    products = _float32_products(module.learner.dtype, module.learner.device)
    with quiet(show_progress=False), _graceful_interrupt(watch), _reasons(recipe), products:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if watch.interrupted:
        raise KeyboardInterrupt
    if sharded:
        gather(module)
    return only_figures(trainer.state.log_history)


def _arguments(recipe: Recipe, module: LossModule) -> TrainingArguments:
    warmup = recipe.warmup_steps or recipe.warmup_ratio  # below 1 the Trainer reads it as a share of all steps
    arguments = TrainingArguments(
        output_dir=str(Path(recipe.output_dir) / CHECKPOINTS),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        num_train_epochs=recipe.num_train_epochs,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        warmup_steps=warmup,
        lr_scheduler_type=recipe.lr_scheduler_type,
        max_grad_norm=recipe.max_grad_norm,
        logging_strategy="no",  # the watch says when a line is due
        logging_nan_inf_filter=False,  # the watch stops a run that diverges
        save_steps=recipe.save_steps,
        save_total_limit=recipe.save_total_limit,
        save_only_model=recipe.save_only_model,
        seed=recipe.seed,
        use_cpu=next(module.parameters()).device.type == "cpu",
        train_sampling_strategy="sequential",  # the batches are shuffled already
        remove_unused_columns=False,
        label_names=[],
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=reporters(recipe),
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process: on several GPUs the Trainer would replicate the model by threads
    _stay_on(next(module.parameters()).device, arguments)
    return arguments


def _stay_on(device: torch.device, arguments: TrainingArguments) -> None:
    """Train where the model is: the Trainer takes cuda:0 in every process that is alone, and accelerate the current GPU."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        arguments.__dict__["_setup_devices"] = device  # what its property `device` has found


@contextmanager
def _float32_products(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Until the end, products that stay in float32 (scores of a batch) go through a GPU's tensor cores, as TF32.

    Not for a recipe in float32: who asks for it wants its precision.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and dtype is not torch.float32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def reporters(recipe: Recipe) -> list[str]:
    """The Trainer's names of where a run is shown. Raises RagvecError for one that is not installed."""
    from transformers.integrations import get_available_reporting_integrations

    wanted, there = [name for name in recipe.report_to if name != "none"], get_available_reporting_integrations()
    for name in wanted:
        if name not in there:
            raise RagvecError(f"report_to: {name} is not installed here (installed: {', '.join(there) or 'none'}): install it")
    return wanted


@contextmanager
def _reasons(recipe: Recipe) -> Iterator[None]:
    """Turn what stops a run from outside into a line that says so; a checkpoint cut short is removed."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RagvecError(
            "the device is out of memory: lower per_device_train_batch_size (or batch_tokens) and raise "
            "gradient_accumulation_steps, set gradient_checkpointing, or lower max_seq_length"
        ) from error
    except (OSError, RuntimeError, SafetensorError) as error:
        torn = remove_torn_checkpoints(recipe)
        if not torn and getattr(error, "errno", None) not in _NO_ROOM:
            raise
        what = torn[-1] if torn else getattr(error, "filename", None) or recipe.output_dir
        left = newest_checkpoint(recipe) if not recipe.save_only_model else None
        raise RagvecError(
            f"{what} could not be written ({first_line(error)}): free some disk space, then pass `resume`; "
            + (f"{left} is the newest good checkpoint" if left else "it would have been the first checkpoint")
        ) from error


@contextmanager
def _graceful_interrupt(watch: Watch) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM finish the step and save a checkpoint; a second Ctrl-C ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if watch.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        watch.interrupted = True

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
