"""Everything that wants a GPU, in one call of eight minutes: ``python3 benchmark/gpu.py --json OUT/gpu.json``.

It needs a checkout, a GPU, and a Python that has torch with CUDA, numpy, OpenCV, safetensors, PyYAML and tqdm (lightning with
tensorboard to train, onnx and onnxruntime for these engines): no network, no set-up, no ROS, no PyAV, no rosbags. Frames are
generated. The steps run in order of worth, each in a process and within a time of its own, and the JSON is written whenever one
has found something: a call that is cut off, or a step that dies, keeps all the rest.

``--dry-run`` does all steps on the CPU with tiny numbers, to see that they work; its figures mean nothing.

The last but one, the node over DDS, needs ROS 2. ``--wheels FOLDER`` says where it was carried along; without it that step is
"not run". FOLDER is made once, on any machine with a network, for the Python (3.12) of the machine with the GPU:

    python3.12 -m venv /tmp/build && . /tmp/build/bin/activate        # in the checkout's root
    pip install -r requirements/build.txt -r requirements/ros_wheels.txt rosbags -c requirements/constraints.txt
    python benchmark/gpu_steps/carry.py FOLDER     # builds csl_tracker_msgs, packs it with what the wheels installed

That is one archive of 11 MB; a checkout without ``.git`` has 27 MB. Beside the JSON lies a ``.log`` of what the steps printed.

    python benchmark/gpu.py --table docs/results/gpu.json --page docs/engines.md   # the tables; "not measured" without a file
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if sys.path[0] != str(ROOT):  # run as a script, where the script's own folder stands first
    sys.path.insert(0, str(ROOT))

from benchmark.gpu_steps import child, tables  # noqa: E402
from benchmark.gpu_steps.plan import STEPS, WHOLE_S, Step  # noqa: E402
from benchmark.gpu_steps.runner import Report, Settings, Signals, StoppedError, run_steps  # noqa: E402
from csl_tracker.errors import EXIT_USER_ERROR, ConfigError, CslTrackerError  # noqa: E402
from csl_tracker.output import print_or_write_between  # noqa: E402
from csl_tracker.provenance import machine, portable, versions  # noqa: E402

_SHORTEST_S = 10.0
_PATIENCE = 10.0
"""A dry run is small enough to end by itself, and may meet a machine that is busy."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ConfigError: It is of no use.
    """
    parser = argparse.ArgumentParser(prog="gpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--seconds", type=float, default=WHOLE_S, help="for everything (%(default)g)")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="ROS 2 that was carried along, for the node")
    parser.add_argument("--dry-run", action="store_true", help="all steps on the CPU with tiny numbers")
    names = [step.name for step in STEPS]
    parser.add_argument("--steps", nargs="+", choices=names, default=names, metavar="STEP", help=f"of {', '.join(names)}")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the tables of such a file, and measure nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --table: put it into this page, between its marks")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one is not None or args.table is not None:
        return args
    if args.json is None:
        raise ConfigError("Give the file for the figures with --json.")
    if not (math.isfinite(args.seconds) and args.seconds >= _SHORTEST_S):
        raise ConfigError(f"--seconds is {args.seconds:g}; give at least {_SHORTEST_S:g}.")
    if args.wheels is not None and not args.wheels.is_dir():
        raise ConfigError(f"There is no folder {args.wheels}; --wheels takes the one that carry.py has made.")
    return args


def gpu() -> dict[str, Any]:
    """The first GPU and what drives it.

    Raises:
        ConfigError: There is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"This torch ({torch.__version__}) sees no CUDA GPU; --dry-run does all steps on the CPU, tiny.")
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu_memory_mb": properties.total_memory / 1e6,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def driver() -> str | None:
    """Version of NVIDIA's driver, if it can be asked."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.split("\n")[0].strip() or None


def measure(args: argparse.Namespace, signals: Signals) -> int:
    """Run the steps, and print what they have found.

    Args:
        args: The command line.
        signals: Those that have come.

    Returns:
        0; 1 where a step failed or was cut off.

    Raises:
        ConfigError: There is no GPU, and it is no dry run.
    """
    import torch

    about = {} if args.dry_run else gpu()
    words = [str(portable(word)) for word in sys.argv[1:]]
    head = {
        "command": shlex.join(["python3", "benchmark/gpu.py", *words]),
        "dry_run": args.dry_run,
        "machine": {**machine(), **about},
        "versions": {**versions(), "torch": torch.__version__},
        "load_before": os.getloadavg()[0],
        "seconds": args.seconds,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    wanted = {"frames", *args.steps}  # most of the others need them
    steps: list[Step] = [step for step in STEPS if step.name in wanted]
    if args.dry_run and wanted & {"training", "paper"}:
        import lightning.pytorch  # noqa: F401  # once, and not in every copy
    with tempfile.TemporaryDirectory(prefix="csl_tracker_gpu_") as folder:
        device = "cpu" if args.dry_run else "cuda:0"
        wheels = None if args.wheels is None else args.wheels.resolve()
        seconds = args.seconds * (_PATIENCE if args.dry_run else 1.0)
        settings = Settings(Path(folder), device, args.dry_run, seconds, wheels, Path(__file__), copies=args.dry_run)
        report = Report(args.json, head)
        run_steps(steps, report, settings, signals, lambda text: print(text, flush=True))
    print(tables.everything({**head, "steps": report.steps}))
    bad = [name for name, entry in report.steps.items() if entry["state"] in ("failed", "cut off")]
    print(f"\nwrote {args.json}{'; not whole: ' + ', '.join(bad) if bad else ''}")
    return 1 if bad else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 where a step failed, 2 for a mistake of the user, 130 after Ctrl-C, 143 after SIGTERM."""
    try:
        args = arguments(argv)
        if args.one is not None:
            return child.run_one(json.loads(args.one))
        if args.table is not None:
            print_or_write_between(args.page, tables.BEGIN, tables.END, tables.gpu_section(tables.load(args.table)))
            return 0
        with Signals() as signals:
            return measure(args, signals)
    except CslTrackerError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except StoppedError as stopped:
        print("\ngpu.py: stopped; the JSON has what was found.", file=sys.stderr)
        return 128 + stopped.number


if __name__ == "__main__":
    sys.exit(main())
