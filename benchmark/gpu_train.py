"""A prepared training for a GPU at hand, from the newest weights and a carried part of a bank of rendered scenes.

    python3 benchmark/gpu_train.py --carry FOLDER --out OUT [--minutes 8] [--config FILE] [--dry-run] [KEY=VALUE ...]

It needs a checkout, a GPU, and a Python that has torch with CUDA, numpy, OpenCV, safetensors, PyYAML, tqdm, lightning,
tensorboard and pydantic: no network, no set-up, no ROS. FOLDER has

    bank/                  a part of a bank, made by benchmark/carry_bank.py
    weights.safetensors    the weights to start from; without it, those of the configuration
    packages/              Python packages that the machine lacks, if any; for pydantic and Python 3.12:
        pip install --no-compile --target FOLDER/packages --only-binary :all: --python-version 3.12 pydantic

A probe measures the steps per second with a batch size that fits the memory: 64, halved as often as needed. The number of steps
is then chosen such that the schedule of the learning rate ends within the time. KEY=VALUE replaces a setting of the
configuration, also batch_size and workers.

OUT gets weights.safetensors (best validation so far, written after each one), gpu_train.json and metrics.csv while the training
runs, and at its end last.safetensors. A call that is cut off keeps them. No file is above 16 MiB. ``--dry-run`` does everything
on the CPU, with a few tiny steps.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_BEGAN = time.monotonic()

ROOT = Path(__file__).resolve().parents[1]
if sys.path[0] != str(ROOT):  # run as a script, where the script's own folder stands first
    sys.path.insert(0, str(ROOT))

from csl_tracker.errors import EXIT_USER_ERROR, ConfigError, CslTrackerError, DatasetError  # noqa: E402

BANK, WEIGHTS, PACKAGES = "bank", "weights.safetensors", "packages"
BANK_VARIABLE = "CSL_TRACKER_BANK"
_SHORTEST_MINUTES = 0.2


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ConfigError: It is of no use.
    """
    parser = argparse.ArgumentParser(
        prog="gpu_train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--carry", type=Path, required=True, metavar="FOLDER", help="what was carried along")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="where weights and curves go")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (%(default)g)")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "config" / "train" / "rendered.yaml", metavar="FILE", help="of the training"
    )
    parser.add_argument("--dry-run", action="store_true", help="a few tiny steps on the CPU")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that replace those of the configuration")
    args = parser.parse_args(argv)
    if not (math.isfinite(args.minutes) and args.minutes >= _SHORTEST_MINUTES):
        raise ConfigError(f"--minutes is {args.minutes:g}; give at least {_SHORTEST_MINUTES:g}.")
    if not (args.carry / BANK / "bank.json").is_file():
        raise ConfigError(f"There is no bank in {args.carry / BANK}; make one with benchmark/carry_bank.py.")
    return args


def bank_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each shard, by its name.

    Raises:
        DatasetError: A shard is missing, or is not the one that was written.
    """
    from csl_tracker.datasets.rendered.bank import open_bank
    from csl_tracker.provenance import sha256_of

    hashes = open_bank(folder).hashes
    wrong = next((name for name, expected in hashes.items() if sha256_of([folder / name]) != expected), None)
    if wrong is not None:
        raise DatasetError(f"The shard {folder / wrong} has not the SHA-256 of its .json; carry the bank again.")
    return dict(hashes)


def measure(args: argparse.Namespace) -> int:
    """Train, and print where the files are.

    Returns:
        0; 1 where the training was not finished in time.

    Raises:
        CslTrackerError: A mistake of the user.
        StoppedError: A signal came.
    """
    packages = args.carry / PACKAGES
    if packages.is_dir():
        sys.path.append(str(packages.resolve()))
    try:
        import pydantic  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"This Python cannot import pydantic ({error}); the head of benchmark/gpu_train.py says how to carry it."
        ) from error
    import torch

    from benchmark.gpu import gpu
    from benchmark.gpu_steps import train_plan
    from benchmark.gpu_steps.runner import Signals
    from csl_tracker.provenance import machine, portable, versions

    about = {} if args.dry_run else gpu()
    os.environ[BANK_VARIABLE] = str((args.carry / BANK).resolve())
    weights = args.carry / WEIGHTS
    cores = len(os.sched_getaffinity(0))
    config = train_plan.base_config(
        args.config, args.overrides, weights.resolve() if weights.is_file() else None, cores, args.dry_run
    )
    from benchmark.gpu_steps import train_run  # imports lightning

    command = shlex.join(["python3", "benchmark/gpu_train.py", *(str(portable(word)) for word in args.words)])
    head: dict[str, Any] = {
        "command": command,
        "dry_run": args.dry_run,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {**machine(), **about},
        "versions": {**versions(), "torch": torch.__version__},
        "load_before": os.getloadavg()[0],
        "minutes": args.minutes,
        "bank_sha256": bank_hashes(args.carry / BANK),
        "initial_weights": train_run.initial_weights(config),
    }
    report = train_run.Report(args.out, head)
    with Signals() as signals, tempfile.TemporaryDirectory(prefix="csl_tracker_gpu_train_") as work:
        end = args.began + 60 * args.minutes
        say = functools.partial(print, flush=True)
        job = train_run.Job(config, Path(work), command, args.dry_run, end, signals, say)
        try:
            train_run.run(job, report)
        finally:
            report.note(wall_s=time.monotonic() - args.began)
    print(f"{report.data['state']}: {args.out / train_run.JSON}")
    return 0 if report.data["state"] == "done" else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 where time was up, 2 for a mistake of the user, 130 after Ctrl-C, 143 after SIGTERM."""
    from benchmark.gpu_steps.runner import StoppedError

    words = sys.argv[1:] if argv is None else list(argv)
    try:
        args = arguments(words)
        args.words, args.began = words, _BEGAN if argv is None else time.monotonic()
        return measure(args)
    except CslTrackerError as error:
        print(f"gpu_train.py: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except StoppedError as stopped:
        print("\ngpu_train.py: stopped; the files have what was found.", file=sys.stderr)
        return 128 + stopped.number


if __name__ == "__main__":
    sys.exit(main())
