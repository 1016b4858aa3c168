"""Experiments: every model of a comparison, on every fold of a protocol, with every seed; one folder and one JSON a run.

A run lies in ``OUT/runs/FOLD/MODEL/seedK``. Its ``result.json`` appears when it is finished; until then the training goes on
from its last checkpoint. Several processes may work in the same OUT: each run is claimed by a lock on its ``run.lock``, which
the kernel releases when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from csl_tracker.datasets.endovis2015 import find_sequences
from csl_tracker.datasets.registry import DATASETS, FileSequence, open_dataset, select_landmarks
from csl_tracker.errors import ConfigError, CslTrackerError, DatasetError, WeightsError
from csl_tracker.evaluation.protocols import Fold, Part, Protocol, Synthesis
from csl_tracker.evaluation.runs import FORMAT
from csl_tracker.instruments import INSTRUMENT_SETS
from csl_tracker.networks.base import REGRESSING, STRATEGIES, WITHOUT_ENCODER
from csl_tracker.output import write_json
from csl_tracker.pixels import Size
from csl_tracker.provenance import machine, sha256_of, versions
from csl_tracker.training.config import TrainConfig, layered, parse_config
from csl_tracker.training.presets import PRESETS

MODELS = ("l", "sl", "csl_no_skip", "csl", "unet", "forest")
RESULT = "result.json"
LOCK = "run.lock"
CURVE_POINTS = 200
ROOT_VARIABLE = "CSL_TRACKER_EXPERIMENT_ROOT"
"""Environment variable that stands for the data's folder in the configurations of runs, so that these hold on every machine."""

_FIXED = ("name", "output", "train", "validation", "seed", "instruments", "devices", "accelerator")
_OF_THE_MACHINE = ("name", "output", "workers", "threads", "precision", "accelerator", "devices", "cache")
"""Settings that are no part of what a result says."""

_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAUNCHER_PREFIXES = ("TORCHELASTIC_", "ROLE_", "PET_")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TENSORBOARD = "tensorboard"


class ExperimentStoppedError(CslTrackerError):
    """Something that would stop every other run, too, such as a full disk."""


@dataclass(frozen=True)
class Model:
    """A contender.

    Attributes:
        name: As it was asked for: a strategy, or ``STRATEGY@key=value,key=value``.
        strategy: Its strategy.
        settings: What its training has of its own, as plain data.
    """

    name: str
    strategy: str
    settings: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return quote(self.name, safe="@=,.+ []-_")


@dataclass(frozen=True)
class Settings:
    """What an experiment lays over the preset, from the bottom to the top.

    Attributes:
        preset: Name of a training preset.
        file: Settings of ``--config``.
        overrides: Settings of ``key=value``.
    """

    preset: str = "modern"
    file: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run to be made.

    Attributes:
        fold: Its split.
        model: The contender.
        seed: Of everything random.
        folder: Where it lies.
        config: Its training.
    """

    fold: Fold
    model: Model
    seed: int
    folder: Path
    config: TrainConfig

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.model.name}, {self.fold.name}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment, in the order in which they are made.

    Attributes:
        protocol: The splits.
        preset: Name of the training preset.
        out: Folder of the experiment.
        runs: Seeds outermost, then folds, then models: an experiment under way is already a fair comparison.
        reference_size: (height, width) of the image in whose px distances are stated; the source image's when None.
    """

    protocol: Protocol
    preset: str
    out: Path
    runs: tuple[PlannedRun, ...]
    reference_size: Size | None = None


@dataclass
class Outcome:
    """What became of the runs of a plan.

    Attributes:
        made: Runs finished now.
        kept: Runs that were finished before.
        elsewhere: Runs that another process is at.
        failed: What went wrong, a sentence a run.
    """

    made: list[PlannedRun]
    kept: list[PlannedRun]
    elsewhere: list[PlannedRun]
    failed: list[tuple[PlannedRun, str]]


def parse_model(name: str) -> Model:
    """Read the name of a model.

    Raises:
        ConfigError: The strategy is unknown or a setting is no ``key=value``.
    """
    strategy, at, rest = name.partition("@")
    if strategy not in STRATEGIES:
        raise ConfigError(f"The model {name!r} is of no known strategy; choose one of {', '.join(STRATEGIES)}.")
    if at and not rest:
        raise ConfigError(f"The model {name!r} has nothing behind the @; write for example {strategy}@encoder_weights=.")
    words = re.split(r",(?![^\[{]*[\]}])", rest) if rest else []
    return Model(name, strategy, parse_overrides(words))


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Turn ``a.b=value`` into nested settings; values are YAML.

    Raises:
        ConfigError: A word is no ``key=value``.
    """
    settings: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key or any(not step for step in key.split(".")):
            raise ConfigError(f"The setting {word!r} is no key=value; write for example steps=500 or network.encoder=resnet50.")
        try:
            value = yaml.safe_load(text) if text else ""
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of the setting {word!r} is no readable YAML; quote it or correct it.") from error
        for step in reversed(key.split(".")):
            value = {step: value}
        settings = layered(settings, value)
    return settings


def read_settings(path: Path) -> dict[str, Any]:
    """Read a file of settings that are laid over preset and protocol.

    Raises:
        ConfigError: The file is missing or no YAML mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The settings file {path} cannot be read ({error.strerror}); check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no readable YAML: {' '.join(str(error).split())}.") from error
    if data is not None and not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__} and no mapping of settings.")
    return data or {}


def make_plan(
    protocol: Protocol,
    out: Path,
    models: Sequence[str] = MODELS,
    seeds: Sequence[int] = (0,),
    settings: Settings | None = None,
    reference_size: Size | None = None,
    accelerator: str = "auto",
) -> Plan:
    """Plan all runs; nothing is read but the arguments, nothing is written.

    Args:
        protocol: The splits.
        out: Folder of the experiment.
        models: Names of the models.
        seeds: Every model meets every fold with each of these.
        settings: Of every training.
        reference_size: (height, width) of the image in whose px distances are stated; the source image's when None.
        accelerator: ``auto``, ``cpu`` or ``gpu``; every run takes one device.

    Raises:
        ConfigError: A model or a setting is unknown or impossible.
    """
    settings = settings or Settings()
    if settings.preset not in PRESETS:
        raise ConfigError(f"There is no preset {settings.preset!r}; choose one of {', '.join(PRESETS)}.")
    if len(set(models)) != len(models) or not models:
        raise ConfigError(f"The models {', '.join(models)} name one twice; name each once.")
    contenders = [parse_model(name) for name in models]
    runs = []
    for seed in seeds:
        for fold in protocol.folds:
            for model in contenders:
                folder = out / "runs" / quote(fold.name, safe=" -_.") / model.folder / f"seed{seed}"
                config = _config(protocol, fold, model, seed, folder, out, settings, accelerator)
                runs.append(PlannedRun(fold, model, seed, folder, config))
    return Plan(protocol, settings.preset, out, tuple(runs), reference_size)


def _config(
    protocol: Protocol,
    fold: Fold,
    model: Model,
    seed: int,
    folder: Path,
    out: Path,
    settings: Settings,
    accelerator: str,
) -> TrainConfig:
    data: dict[str, Any] = {"cache": str(out / "cache")}
    for layer in (
        protocol.settings,
        protocol.preset_settings.get(settings.preset, {}),
        settings.file or {},
        settings.overrides or {},
        model.settings,
    ):
        taken = [key for key in layer if key in _FIXED and key != "train"]
        if taken:
            raise ConfigError(f"An experiment sets {taken[0]!r} itself for every run; leave it out of the settings.")
        data = layered(data, layer)
    preset = data.pop("preset", settings.preset)
    network = {**data.get("network", {}), "strategy": model.strategy}
    if model.strategy in WITHOUT_ENCODER:
        network |= {"encoder": "none", "decoder": "none"}
    added = data.get("train", [])
    if not isinstance(added, list) or any(not isinstance(item, Mapping) or item.get("root") for item in added):
        raise ConfigError(
            "Only synthetic frames that are drawn on the fly can be added to the training sequences of a fold; write under"
            " 'train' for example [{dataset: synthetic, seed: 1, share: 0.25}]."
        )
    where = f"The configuration of {model.name}, fold {fold.name},"
    data |= {
        "preset": preset,
        "name": f"{protocol.name}/{fold.name}/{model.name}/seed{seed}",
        "output": str(folder),
        "network": network,
        "train": [*_sources(protocol, fold.train), *added],
        "validation": _sources(protocol, fold.validation),
        "seed": seed,
        "devices": "1",
        "accelerator": accelerator,
    }
    if model.strategy in REGRESSING:
        base = layered(PRESETS.get(preset, {}), data)
        crop = base.get("crop", TrainConfig.crop)
        # Coordinates hold for one input size: such a network gets frames of the size that the others are trained on.
        data |= {"input_size": list(crop), "crop": list(crop)}
    return parse_config(data, where)


def _sources(protocol: Protocol, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Sources of parts; every frame of every sequence has about the same chance."""
    weights = [len(part.sequences) * (part.last - part.first) for part in parts]
    return [
        {
            "dataset": protocol.dataset,
            "root": f"${{{ROOT_VARIABLE}}}",
            "sequences": list(part.sequences),
            "share": weight / sum(weights),
            "skip_first": part.first,
            "skip_last": round(1 - part.last, 9),
        }
        for part, weight in zip(parts, weights, strict=True)
    ]


def prepare_data(protocol: Protocol, root: Path) -> dict[str, FileSequence]:
    """Open all sequences of a protocol, and make the synthetic ones that are missing.

    Args:
        protocol: The splits.
        root: Folder of the dataset.

    Returns:
        The test sequences by name.

    Raises:
        DatasetError: Data is missing or broken, or there is no loader for it.
        ConfigError: A sequence lacks a landmark or a class of the instruments.
    """
    if protocol.dataset not in DATASETS:
        raise DatasetError(
            f"The protocol {protocol.name} needs the dataset {protocol.dataset!r}, for which there is no loader; there are"
            f" loaders for {', '.join(sorted(DATASETS))}: bring it into one of their layouts, and copy the protocol's file with"
            " that dataset's name."
        )
    if protocol.synthesis is not None:
        synthesise(protocol.synthesis, root)
    if not root.is_dir():
        raise DatasetError(f"The data of the protocol {protocol.name} is not there: {_looked_for(protocol, root)}")
    found = find_sequences(root)
    missing = [name for name in protocol.sequences if name not in found]
    if missing:
        remedy = ""
        kept = [name for name in protocol.sequences if name in found]
        if protocol.rotates and len(kept) > 1:
            remedy = f" --sequences {' '.join(kept)} restricts the protocol to those that are there."
        raise DatasetError(
            f"The protocol {protocol.name} needs sequences that are not there, {', '.join(missing)}; in {root} there are"
            f" {', '.join(found)}: {_looked_for(protocol, root)}{remedy}"
        )
    sequences = {sequence.name: sequence for sequence in open_dataset(protocol.dataset, root, protocol.sequences)}
    instruments = INSTRUMENT_SETS[TrainConfig.instruments]
    for sequence in sequences.values():
        try:
            select_landmarks(sequence, instruments)
        except WeightsError as error:
            raise ConfigError(
                f"The instruments {TrainConfig.instruments!r} have the landmarks {', '.join(instruments.landmarks)} and the"
                f" classes {', '.join(instruments.classes)}; the sequence {sequence.name} has the landmarks"
                f" {', '.join(sequence.landmarks)} and the classes {', '.join(sequence.classes)}: use data that has the same names."
            ) from error
    tested = {name for fold in protocol.folds for part in fold.test for name in part.sequences}
    return {name: sequence for name, sequence in sequences.items() if name in tested}


def _looked_for(protocol: Protocol, root: Path) -> str:
    folders = ", ".join(str(root / name) for name in protocol.sequences[:4])
    more = f" and {len(protocol.sequences) - 4} more" if len(protocol.sequences) > 4 else ""
    return (
        f"looked for {folders}{more}, each with Video.avi beside Segmentation.avi, Pose.txt and the *_labels.json of the joints"
        " (Left_Instrument_* and Right_Instrument_* with two instruments), also below the folders of the challenge's zip files;"
        " give the folder that holds them as --root."
    )


def synthesise(synthesis: Synthesis, root: Path) -> None:
    """Make the sequences that are missing; one process does while the others wait.

    Raises:
        DatasetError: The folder cannot be written, or holds a sequence of other frames than stated.
    """
    from tqdm import tqdm

    from csl_tracker.datasets.synthetic import SyntheticSequence
    from csl_tracker.datasets.synthetic.layout import write_endovis2015

    wanted = [
        (name, group.frames, group.seed + index) for group in synthesis.groups for index, name in enumerate(group.sequences)
    ]
    if any(not (root / name).is_dir() for name, _, _ in wanted):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with (root / ".synthesis.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                todo = [item for item in wanted if not (root / item[0]).is_dir()]
                total = sum(frames for _, frames, _ in todo)
                with tqdm(total=total, desc="rendering", unit="frame", disable=None) as bar:
                    for name, frames, seed in todo:
                        sequence = SyntheticSequence(seed, frames, synthesis.size, synthesis.fps, name=name)
                        write_endovis2015(sequence, root, bar.update)
        except OSError as error:
            raise DatasetError(
                f"The synthetic sequences cannot be written below {root} ({error.strerror}); give another --root."
            ) from error
    for sequence in open_dataset("synthetic", root, [name for name, _, _ in wanted]):
        frames = next(frames for name, frames, _ in wanted if name == sequence.name)
        if len(sequence) != frames or sequence.size != synthesis.size:
            raise DatasetError(
                f"{root / sequence.name} has {len(sequence)} frames of {sequence.size[0]}x{sequence.size[1]} px, and the"
                f" protocol asks for {frames} of {synthesis.size[0]}x{synthesis.size[1]}; remove the folder, or give another --root."
            )


def take_local_rank() -> int | None:
    """Number of this process among those of a launcher on this machine; None without a launcher.

    Takes the launcher's variables out of the environment: left there, Lightning would form one job of all processes, where here
    every process makes runs of its own.
    """
    rank = os.environ.pop("LOCAL_RANK", None)
    for key in list(os.environ):
        if key in _LAUNCHER or key.startswith(_LAUNCHER_PREFIXES):
            del os.environ[key]
    return int(rank) if rank is not None and rank.isdigit() else None


def choose_device(device: str, rank: int | None) -> str:
    """Leave this process the one device that it is to use.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        rank: Number of this process on this machine, of a launcher.

    Returns:
        Lightning's name of the accelerator: ``cpu`` or ``gpu``.

    Raises:
        EngineError: The device is unknown or not there.
    """
    import torch

    from csl_tracker.engines.factory import resolve_device

    if device == "cpu" or (device == "auto" and not torch.cuda.device_count()):
        return "cpu"
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    visible = visible or [str(index) for index in range(torch.cuda.device_count())]
    if device in ("auto", "cuda"):
        chosen = (rank or 0) % max(1, len(visible))
    else:
        chosen = int(resolve_device(device).partition(":")[2] or 0)
    if visible:
        # Works as long as CUDA has not been used in this process; counting devices does not count as use.
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[chosen]
    resolve_device("cuda")
    return "gpu"


def run_plan(
    plan: Plan,
    root: Path,
    command: str,
    say: Callable[[str], None] = print,
    device: str = "auto",
) -> Outcome:
    """Make all runs that are not finished; one that fails is reported, and the others go on.

    Args:
        plan: What to run.
        root: Folder of the dataset.
        command: The command line, for the provenance.
        say: Takes a line about every run.
        device: Where the trained networks are measured.

    Raises:
        ExperimentStoppedError: The disk is full or OUT cannot be written.
        DatasetError, ConfigError: Data is missing, or a finished run is of another configuration.
    """
    sequences = prepare_data(plan.protocol, root)
    os.environ[ROOT_VARIABLE] = str(root.resolve())
    outcome = Outcome([], [], [], [])
    for run in plan.runs:
        if is_finished(plan, run):
            outcome.kept.append(run)
    pending = [run for run in plan.runs if run not in outcome.kept]
    if outcome.kept:
        say(f"{len(outcome.kept)} of {len(plan.runs)} runs are finished already.")
    clock = _Clock()
    for run in pending:
        number = plan.runs.index(run) + 1
        with claim(run.folder) as mine:
            if not mine:
                outcome.elsewhere.append(run)
                continue
            if is_finished(plan, run):  # by another process, since
                outcome.kept.append(run)
                continue
            left = clock.left([other.model.name for other in pending[pending.index(run) :]])
            say(f"run {number} of {len(plan.runs)}: {run.title} ({clock.elapsed()} so far{left})")
            started = time.monotonic()
            try:
                with disk_errors(run.folder):
                    make_run(plan, run, sequences, command, device)
            except ExperimentStoppedError:
                raise
            except CslTrackerError as error:
                outcome.failed.append((run, str(error)))
                say(f"run {number} of {len(plan.runs)} failed: {error}")
                continue
            clock.add(run.model.name, time.monotonic() - started)
            outcome.made.append(run)
    return outcome


def make_run(plan: Plan, run: PlannedRun, sequences: Mapping[str, FileSequence], command: str, device: str = "auto") -> None:
    """Train, measure on the test sequences, and write ``result.json``.

    Raises:
        CslTrackerError: What training and evaluation raise.
    """
    from csl_tracker.training.run import train
    from csl_tracker.weights import read_description

    weights = train(run.config, command)
    provenance = read_description(weights).provenance
    measured = _measure(plan, run, weights, sequences, device)
    tested = [sequences[name] for part in run.fold.test for name in part.sequences]
    configuration = stated(run.config)
    write_json(
        run.folder / RESULT,
        {
            "format": FORMAT,
            "protocol": plan.protocol.name,
            "dataset": plan.protocol.dataset,
            "fold": run.fold.name,
            "model": run.model.name,
            "seed": run.seed,
            "network": configuration["network"],
            "preset": plan.preset,
            "steps": run.config.steps,
            "batch_size": run.config.batch_size,
            "input_size": list(run.config.input_size),
            "initialisation": provenance.get("initialisation"),
            "seconds": provenance.get("seconds"),
            "command": command,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": machine(),
            "versions": versions(),
            "input_sha256": sha256_of(path for sequence in tested for path in sequence.files),
            "configuration": configuration,
            "test": _plain([asdict(part) for part in run.fold.test]),
            **measured,
            "curve": read_curve(run.folder / _TENSORBOARD),
        },
    )


def _measure(plan: Plan, run: PlannedRun, weights: Path, sequences: Mapping[str, FileSequence], device: str) -> dict[str, Any]:
    from csl_tracker.evaluation.sequence import evaluate_sequence
    from csl_tracker.tracker import Tracker

    trackers: dict[int, Tracker] = {}
    figures: dict[str, Any] = {}
    for part in run.fold.test:
        for name in part.sequences:
            sequence = sequences[name]
            count = len(sequence.slots)
            if count not in trackers:
                trackers = {count: Tracker.from_weights(weights, device, max_instruments=count, always_report=True)}
            frames = part.frames(len(sequence))
            if not frames:
                raise DatasetError(
                    f"The test part of sequence {name} leaves none of its {len(sequence)} frames; widen the part."
                )
            tracker = trackers[count]
            report = evaluate_sequence(tracker, sequence, frames, reference_size=plan.reference_size, details=True)
            figures[name] = {**report, "max_instruments": count, "input_sha256": sha256_of(sequence.files)}
    return {
        "weights": {
            "name": tracker.model.name,
            "sha256": tracker.model.sha256,
            "confidence_threshold": tracker.confidence_threshold,
            "engine": tracker.engine_name,
            "device": tracker.device,
        },
        "sequences": figures,
    }


def stated(config: TrainConfig) -> dict[str, Any]:
    """The settings that make a result what it is, as plain data: nothing of the machine or of paths."""
    data: dict[str, Any] = _plain(asdict(config))
    return {key: value for key, value in data.items() if key not in _OF_THE_MACHINE}


def is_finished(plan: Plan, run: PlannedRun) -> bool:
    """Whether the run has its result.

    Raises:
        DatasetError: The result is damaged.
        ConfigError: It is of another configuration; the sentence names the setting.
    """
    path = run.folder / RESULT
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        made_with, test = found["configuration"], found["test"]
        reference = next(iter(found["sequences"].values()))["reference_size"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise DatasetError(
            f"The result {path} is damaged ({type(error).__name__}: {error}); delete it and run the experiment again."
        ) from error
    wanted = json.loads(json.dumps({**stated(run.config), "test": _plain([asdict(part) for part in run.fold.test])}))
    size = None if plan.reference_size is None else list(plan.reference_size)
    differing = _difference({**made_with, "test": test, "reference_size": reference}, {**wanted, "reference_size": size})
    if differing is not None:
        key, before, now = differing
        raise ConfigError(
            f"The finished run {path} was made with {key}={json.dumps(before)} and not with {json.dumps(now)}; give another"
            " --out, or delete the run's folder to make it again."
        )
    return True


def _difference(before: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first setting in which two plain trees differ: its dotted name and both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys((*now, *before)):
            found = _difference(before.get(name), now.get(name), f"{key}.{name}" if key else name)
            if found is not None:
                return found
        return None
    # The file's floats are rounded.
    same = abs(before - now) <= 1e-6 if _is_number(before) and _is_number(now) else before == now
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return next(
            (d for i, (a, b) in enumerate(zip(before, now, strict=True)) if (d := _difference(a, b, f"{key}.{i}"))), None
        )
    return None if same else (key, before, now)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Claim a run's folder for this process; gives False where another process has it.

    Raises:
        ExperimentStoppedError: The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise _stopped(error, folder) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what a full disk makes of a training into one sentence.

    Raises:
        ExperimentStoppedError: A file below the folder could not be written.
    """
    try:
        yield
    except OSError as error:
        raise _stopped(error, folder) from error
    except RuntimeError as error:
        # torch.save: "PytorchStreamWriter failed writing file ...", and after it an assertion of the half-written archive.
        if not re.search(r"PytorchStreamWriter failed|inline_container\.cc|basic_ios|iostream error", str(error)):
            raise
        raise _stopped(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "last.partial")), folder) from error


def _stopped(error: OSError, folder: Path) -> ExperimentStoppedError:
    name = error.filename if isinstance(error.filename, str) else os.fspath(error.filename or folder)
    reason = error.strerror or str(error)
    remedy = "make room on the disk" if error.errno in _FULL else "check the folder and its permissions"
    return ExperimentStoppedError(
        f"The file {name} cannot be written ({reason}); {remedy}, and give the same command again: finished runs and the last"
        " checkpoints are kept."
    )


def read_curve(folder: Path) -> dict[str, Any]:
    """Loss over the steps, from the event files of TensorBoard; of a step that was made twice the last value counts.

    Args:
        folder: Of the event files; it may be missing, as a forest has none.

    Returns:
        ``step`` and ``loss``, at most 200 points, each the mean of the logged values around it; ``validation_step`` and
        ``validation``, figure -> values, at most 200 points that are picked evenly.
    """
    scalars = _scalars(folder) if folder.is_dir() else {}
    loss = scalars.get("train/loss_step") or scalars.get("train/loss_epoch") or {}
    steps = sorted(loss)
    size = -(-len(steps) // CURVE_POINTS) or 1
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    validation = {key.partition("/")[2]: values for key, values in scalars.items() if key.startswith("val/")}
    every = sorted({step for values in validation.values() for step in values})
    picked = every[:: -(-len(every) // CURVE_POINTS) or 1]
    return {
        "step": [round(sum(group) / len(group)) for group in groups],
        "loss": [_finite(sum(loss[step] for step in group) / len(group)) for group in groups],
        "validation_step": picked,
        "validation": {key: [_finite(values.get(step)) for step in picked] for key, values in sorted(validation.items())},
    }


def _scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value; later event files win."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, tuple[float, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            values = found.setdefault(tag, {})
            for event in events.Scalars(tag):
                if event.step not in values or event.wall_time >= values[event.step][0]:
                    values[event.step] = (event.wall_time, event.value)
    return {tag: {step: value for step, (_, value) in values.items()} for tag, values in found.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


def find_results(out: Path) -> list[dict[str, Any]]:
    """The data of all finished runs below an experiment's folder, in the order of their paths.

    Raises:
        DatasetError: There is none, or one is damaged.
    """
    results = []
    for path in sorted((out / "runs").glob(f"*/*/*/{RESULT}")):
        try:
            results.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DatasetError(
                f"The result {path} cannot be read ({error}); delete it and run the experiment again."
            ) from error
    if not results:
        raise DatasetError(f"There is no finished run below {out / 'runs'}; run the experiment first, or check --out.")
    return results


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


class _Clock:
    """How long the runs took, and how long the others will."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds: dict[str, list[float]] = {}

    def add(self, model: str, seconds: float) -> None:
        self.seconds.setdefault(model, []).append(seconds)

    def elapsed(self) -> str:
        return _duration(time.monotonic() - self.started)

    def left(self, models: Sequence[str]) -> str:
        """Estimate for the runs of these models; '' before the first."""
        done = [seconds for values in self.seconds.values() for seconds in values]
        if not done:
            return ""
        known = {model: sum(values) / len(values) for model, values in self.seconds.items()}
        return f", about {_duration(sum(known.get(model, sum(done) / len(done)) for model in models))} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
