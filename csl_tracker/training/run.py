"""A training run: build or resume, fit, and write weights files."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from csl_tracker import __version__
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import find_instruments
from csl_tracker.network_names import REGRESSING
from csl_tracker.networks import Network, NetworkConfig, build_network
from csl_tracker.networks.published import published_weights
from csl_tracker.provenance import portable
from csl_tracker.training.config import MAY_CHANGE, TrainConfig
from csl_tracker.training.cpu import keep_freed_memory
from csl_tracker.training.data import build_loaders
from csl_tracker.training.differences import differing_setting
from csl_tracker.training.module import CHECKPOINT_KEY, NonFiniteLossError, TrackingModule
from csl_tracker.weights import ModelDescription, Preprocessing, find_weights, load_weights, save_weights

logger = logging.getLogger(__name__)

LAST = "last.ckpt"
BEST = "best.ckpt"


def _common(old: Network, new: Network) -> dict[str, Tensor]:
    """Tensors of a network that another one has, too."""
    wanted = new.state_dict()
    return {name: tensor for name, tensor in old.state_dict().items() if name in wanted}


def build(config: TrainConfig) -> tuple[Network, Preprocessing, str]:
    """Build the network and its preprocessing; also returns a description of the initialisation.

    Raises:
        WeightsError: Initial weights are missing or invalid.
        ConfigError: They belong to another network.
    """
    instruments = find_instruments(config.instruments)
    section = config.network
    network_config = NetworkConfig(
        section.strategy,
        section.encoder,
        section.decoder,
        instruments.num_landmarks,
        instruments.num_classes,
        input_size=config.input_size if section.strategy in REGRESSING else None,
        slots=section.slots,
        width=section.width,
        decoder_width=section.decoder_width,
        bottleneck_relu=section.bottleneck_relu,
        association=section.association,
    )
    torch.manual_seed(config.seed)
    network = build_network(network_config)
    if config.init_weights:
        model = load_weights(find_weights(os.path.expandvars(config.init_weights)))
        had = replace(model.description.network, association=network_config.association)
        if had != network_config or model.instruments.landmarks != instruments.landmarks:
            raise ConfigError(
                f"{config.init_weights} is a network {model.description.network} with landmarks {model.instruments.landmarks},"
                f" the training builds {network_config} with {instruments.landmarks}; make them equal."
            )
        # The association can be added to a network, or left out.
        network.load_state_dict({**network.state_dict(), **_common(model.network, network)})
        origin = (
            f"{model.name} ({model.short_hash}), itself from {model.description.provenance.get('initialisation', 'unknown')}"
        )
    elif config.encoder_weights and network.encoder is not None:
        state, origin = published_weights(section.encoder, config.encoder_weights)
        network.encoder.load_published(state)
    else:
        origin = "random initialisation"
    if config.new_layers_std and not config.init_weights:
        initialise_new_layers(network, config.new_layers_std)
    normalization = network.normalization
    return network, Preprocessing(normalization.mean, normalization.std, config.input_size, config.resize), origin


def initialise_new_layers(network: Network, std: float) -> None:
    """Initialise the layers after the encoder from a zero-mean normal distribution (Laina et al. 2017, section 3)."""
    encoder = set() if network.encoder is None else {id(module) for module in network.encoder.modules()}
    for module in network.modules():
        if id(module) not in encoder and isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def train(config: TrainConfig, command: str, resume: bool = True, callbacks: Sequence[Callback] = ()) -> Path:
    """Run a training to its end, from its last checkpoint if there is one.

    Args:
        config: What to train.
        command: The command line, for the provenance.
        resume: Go on from ``last.ckpt`` in the output folder; a run that is finished only writes its weights again.
        callbacks: Lightning's, besides the package's own; a forest has none.

    Returns:
        Path of the weights of the last step; those of the best validation lie beside it as ``best.safetensors``.

    Raises:
        ConfigError: The loss became NaN (the last good checkpoint is kept and the sentence says the step), or the checkpoint
            is damaged or belongs to another configuration.
        DatasetError, WeightsError: Data or initial weights cannot be had.
    """
    output = Path(config.output)
    if config.network.strategy == "forest":
        from csl_tracker.training.forest import train_forest

        return train_forest(config, command, resume)
    _prepare_process(config)
    network, preprocessing, origin = build(config)
    module = TrackingModule(network, config, preprocessing)
    output.mkdir(parents=True, exist_ok=True)
    last = output / LAST
    before = _read_checkpoint(last, config) if resume and last.is_file() else None
    if before is not None:
        logger.info("Going on from %s, step %d.", last, before["global_step"])
        module.seconds_before = before[CHECKPOINT_KEY]["seconds"]
    if before is None or before["global_step"] < config.steps:
        is_writer = _fit(config, module, preprocessing, last, before is not None, callbacks)
        if not is_writer:
            return output / f"{last.stem}.safetensors"
    for path in (last, output / BEST):
        if path.is_file():
            export_checkpoint(path, config, network, preprocessing, {"command": command, "initialisation": origin})
    return output / f"{last.stem}.safetensors"


def _prepare_process(config: TrainConfig) -> None:
    """Seed, threads, and what makes training on a CPU faster."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its level INFO is about Lightning itself
    pl.seed_everything(config.seed, workers=True, verbose=False)
    # The tails of the Gaussians and of Adam's moments are denormal numbers, which some CPUs handle slowly.
    torch.set_flush_denormal(True)
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)


def _fit(
    config: TrainConfig,
    module: TrackingModule,
    preprocessing: Preprocessing,
    last: Path,
    going_on: bool,
    callbacks: Sequence[Callback],
) -> bool:
    """Train up to the last step.

    Returns:
        Whether this process writes the weights; of several processes the first one does.
    """
    loader, held_out = build_loaders(config, preprocessing, lambda: module.global_step)
    interrupt = _Interrupt()
    trainer = _trainer(config, last, interrupt, callbacks)
    try:
        with interrupt:
            trainer.fit(module, loader, held_out, ckpt_path=str(last) if going_on else None, weights_only=True)
            interrupt.raise_it()
    except NonFiniteLossError as error:
        kept = f"the last good checkpoint is {last}" if last.is_file() else "there is no checkpoint yet"
        raise ConfigError(
            f"The loss became NaN or infinite at step {error.step}; {kept}."
            " Lower learning_rate or raise warmup and start again."
        ) from error
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        if trainer.interrupted:
            raise KeyboardInterrupt from stop
        raise
    return bool(trainer.is_global_zero)


def _trainer(config: TrainConfig, last: Path, interrupt: _Interrupt, more: Sequence[Callback]) -> pl.Trainer:
    output = last.parent
    callbacks: list[Callback] = [
        interrupt,
        _StepCount(),
        ModelCheckpoint(output, filename="best", monitor="val/loss", save_top_k=1, enable_version_counter=False),
        _LastCheckpoint(last),
        LearningRateMonitor("step"),
        TQDMProgressBar(refresh_rate=5),
        *more,
    ]
    if config.ema_decay:
        callbacks.append(WeightAveraging(multi_avg_fn=averaging(config.ema_decay, config.ema_warmup)))
    return pl.Trainer(
        default_root_dir=output,
        accelerator=config.accelerator,
        devices=int(config.devices) if config.devices.isdigit() else config.devices,
        precision=_precision(config),
        max_steps=config.steps,
        max_epochs=-1,
        check_val_every_n_epoch=config.validate_every,
        num_sanity_val_steps=0,
        gradient_clip_val=config.clip or None,
        logger=TensorBoardLogger(output, name="", version="tensorboard"),
        callbacks=callbacks,
        use_distributed_sampler=False,
        log_every_n_steps=10,
        enable_model_summary=False,
    )


def averaging(decay: float, warmup: bool) -> Callable[[Any, Any, Any], None]:
    """The update of the exponential moving average of the weights, for torch's ``AveragedModel``.

    The average starts at the weights of the first step, which keep a share of ``decay ** steps``: 8 % after 5000 steps at
    0.9995. The warm-up lowers the decay to ``(1 + n) / (10 + n)`` at update n while that is less; their share then falls as
    ``n ** -9``.

    Args:
        decay: Decay per step.
        warmup: Whether to warm up the decay.
    """
    plain: Callable[[Any, Any, Any], None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    if not warmup:
        return plain

    def update(averaged: Any, current: Any, count: Any) -> None:
        number = int(count)
        warm = (1 + number) / (10 + number)
        step = plain if warm >= decay else get_ema_multi_avg_fn(warm)  # type: ignore[no-untyped-call]
        step(averaged, current, count)

    return update


def _read_checkpoint(path: Path, config: TrainConfig) -> dict[str, Any]:
    """Read a checkpoint to resume from.

    Raises:
        ConfigError: It is damaged, or belongs to another configuration.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        made_with = state[CHECKPOINT_KEY]["configuration"]
    except Exception as error:
        raise ConfigError(
            f"The checkpoint {path} cannot be read ({type(error).__name__});"
            " use --fresh to start again, or another output folder."
        ) from error
    wanted = {key: value for key, value in asdict(config).items() if key not in MAY_CHANGE}
    differing = differing_setting(made_with, wanted)
    if differing is not None:
        key, before, now = differing
        raise ConfigError(
            f"The checkpoint {path} was made with {key}={before!r} and not with {now!r};"
            " use --fresh to start again, or another output folder."
        )
    return state


def export_checkpoint(
    path: Path, config: TrainConfig, network: Network, preprocessing: Preprocessing, origin: dict[str, Any]
) -> Path:
    """Convert a checkpoint to a weights file in the same folder, using averaged weights if available.

    Args:
        path: The checkpoint.
        config: Its configuration.
        network: A network of :func:`build`; gets the checkpoint's weights.
        preprocessing: From :func:`build`.
        origin: ``command`` and ``initialisation``, for the provenance.

    Returns:
        Path of the weights file.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "network."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in state["state_dict"].items() if k.startswith(prefix)})
    provenance = {
        **origin,
        **{key: portable(state[CHECKPOINT_KEY][key]) for key in ("configuration", "seconds", "validation")},
        "steps": state["global_step"],
        "versions": {
            "csl_tracker": __version__,
            "torch": torch.__version__,
            "lightning": importlib.metadata.version("lightning"),
        },
    }
    description = ModelDescription(
        name=config.name,
        network=network.config,
        instruments=find_instruments(config.instruments),
        heatmap=config.heatmap.spec(),
        preprocessing=preprocessing,
        provenance=provenance,
    )
    weights = path.with_suffix(".safetensors")
    save_weights(weights, network, description, half=config.half)
    return weights


class _StepCount(Callback):
    """Makes the logger count optimizer steps; Lightning's count is off by one for each resume."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


class _LastCheckpoint(Callback):
    """Writes the last checkpoint at the end of each epoch, atomically.

    Flushes the log first, so that it has no gap after resuming.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        for log in trainer.loggers:
            if isinstance(log, TensorBoardLogger):
                log.experiment.flush()
        partial = self.path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)


class _Interrupt(Callback):
    """Ends the training on Ctrl-C even if a library swallows the exception.

    The context manager records SIGINT and restores the previous handler, since Lightning leaves it ignored.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: Any = None

    def __enter__(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        if callable(before) and threading.current_thread() is threading.main_thread():
            self._before = before
            signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        self._before(number, frame)

    def raise_it(self) -> None:
        """Raise ``KeyboardInterrupt`` if SIGINT was received."""
        if self._came:
            raise KeyboardInterrupt

    def on_train_batch_start(self, *_: object) -> None:
        self.raise_it()


def _precision(config: TrainConfig) -> Any:
    if config.precision != "auto":
        return config.precision
    on_gpu = config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "16-mixed" if on_gpu else "32-true"
