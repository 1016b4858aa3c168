"""``csl-tracker experiment``: train and compare models by a protocol."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csl_tracker.cli.sizes import size_argument
from csl_tracker.errors import EXIT_USER_ERROR, ConfigError, CslTrackerError
from csl_tracker.network_names import COMPARED, STRATEGIES
from csl_tracker.paths import user_path
from csl_tracker.provenance import portable_command
from csl_tracker.text import printable

if TYPE_CHECKING:
    from csl_tracker.evaluation.protocols import Protocol

_WIDTH = 110
_SETTING = re.compile(r"[A-Za-z_][\w.]*=")  # a model variant has an @ before the =


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("protocol", nargs="?", metavar="NAME", help="a built-in protocol (see --list), or a protocol file")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings of every training, such as steps=500; allowed anywhere on the line",
    )
    parser.add_argument("--list", action="store_true", help="explain protocols, models and presets, and exit")
    parser.add_argument("--root", type=user_path, metavar="DIR", help="folder of the dataset; synthetic: default OUT/data")
    parser.add_argument("--out", type=user_path, metavar="DIR", help="folder of the experiment; an existing one is continued")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 (default: %(default)s)")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="strategies, or variants STRATEGY@key=value,key=value such as csl@encoder_weights= (random initialisation)"
        f" (default: {' '.join(COMPARED)})",
    )
    parser.add_argument("--preset", default="modern", metavar="NAME", help="training preset (default: %(default)s)")
    parser.add_argument("--config", type=user_path, metavar="FILE.yaml", help="settings applied over preset and protocol")
    parser.add_argument(
        "--variants",
        type=user_path,
        metavar="FILE.yaml",
        help="named variants with their settings: --models STRATEGY@VARIANT",
    )
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="restrict a leave-one-out protocol to these sequences")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N; one per run (default: %(default)s)")
    parser.add_argument(
        "--reference-size", type=size_argument, metavar="HxW", help="report distances in px of an image of this size"
    )
    parser.add_argument("--comparators", type=user_path, metavar="CSV", help="published curves for comparison in the figures")
    parser.add_argument(
        "--no-panels",
        action="store_true",
        help="write no pictures of frames (confidential data); existing ones in OUT are removed",
    )
    parser.add_argument("--summary-only", action="store_true", help="only write tables and figures of the finished runs")
    parser.add_argument(
        "--schema",
        choices=("settings", "variants", "protocol"),
        help="print the JSON schema of a file for --config, for --variants, or of a protocol, and exit",
    )
    _allow_settings_anywhere(parser)


def run(args: argparse.Namespace) -> int:
    """Make the missing runs, then tables, figures and panels."""
    if args.list:
        print(explain())
        return 0
    if args.schema:
        from csl_tracker.training.schemas import schema_text

        print(schema_text(args.schema), end="")
        return 0
    protocol, root = _protocol(args)
    if args.summary_only:
        summarise(protocol, args.out, root, args.comparators, args.device, not args.no_panels)
        return 0
    return _make_runs(args, protocol, root)


def _protocol(args: argparse.Namespace) -> tuple[Protocol, Path | None]:
    """The requested protocol, and the folder of its data."""
    from csl_tracker.evaluation.protocol_data import match_names
    from csl_tracker.evaluation.protocols import load_protocol

    if args.protocol is None:
        raise ConfigError("No protocol was named; 'csl-tracker experiment --list' explains the built-in ones.")
    if args.out is None:
        raise ConfigError("An experiment needs --out, the folder of its runs.")
    if args.seeds < 1:
        raise ConfigError(f"--seeds is {args.seeds}; give at least 1.")
    protocol = load_protocol(args.protocol)
    root = args.root or (args.out / "data" if protocol.synthesis is not None else None)
    if not args.summary_only:
        protocol = protocol.with_groups(root)
        if args.sequences:
            protocol = protocol.restricted(args.sequences)
    return protocol if root is None else match_names(protocol, root), root


def _make_runs(args: argparse.Namespace, protocol: Protocol, root: Path | None) -> int:
    from csl_tracker.training.plan import Settings, make_plan, parse_overrides, read_settings, read_variants

    # Read before slow imports.
    settings = Settings(args.preset, read_settings(args.config) if args.config else {}, parse_overrides(args.overrides))
    variants = read_variants(args.variants) if args.variants else None
    from csl_tracker.training.experiment import run_plan
    from csl_tracker.training.processes import choose_device, take_local_rank
    from csl_tracker.training.result import find_results

    find_results(args.out, protocol.name)  # before hours of work: rejects other protocols and damaged results
    rank = take_local_rank()
    accelerator = choose_device(args.device, rank)
    models, seeds = args.models or COMPARED, range(args.seeds)
    plan = make_plan(protocol, args.out, models, seeds, settings, args.reference_size, accelerator, variants)
    device = "cpu" if args.device == "cpu" else "auto"  # other GPUs than the chosen one are hidden
    prefix = "" if rank is None else f"[{rank}] "
    try:
        outcome = run_plan(plan, root, portable_command(), lambda text: print(f"{prefix}{printable(text)}", flush=True), device)
    except (KeyboardInterrupt, OSError):
        print(f"\n{prefix}Stopped; repeat the command to continue from the last checkpoint.", flush=True)
        raise
    finished = len(outcome.made) + len(outcome.kept)
    print(f"{prefix}{finished} of {len(plan.runs)} runs are finished.", flush=True)
    if outcome.elsewhere:
        print(f"{prefix}{len(outcome.elsewhere)} more are running in other processes.", flush=True)
    if finished:
        summarise(protocol, args.out, root, args.comparators, device, not args.no_panels)
    for failed, sentence in outcome.failed:
        print(printable(f"csl-tracker: {failed.title}: {sentence}"), file=sys.stderr)
    return EXIT_USER_ERROR if outcome.failed else 0


def summarise(
    protocol: Protocol, out: Path, root: Path | None, comparators: Path | None, device: str, panels: bool = True
) -> None:
    """Write tables and figures of the finished runs, and panels if requested and possible."""
    from csl_tracker.reporting.experiment_panels import write_experiment_panels
    from csl_tracker.reporting.summary import panels_in, write_summary
    from csl_tracker.training.result import find_results

    results = find_results(out, protocol.name)
    if not panels:
        for picture in panels_in(out):
            picture.unlink()
    elif root is not None and root.is_dir():
        try:
            write_experiment_panels(results, out, root, protocol.dataset, device)
        except CslTrackerError as error:  # tables and figures need neither data nor weights
            print(f"csl-tracker: no panels: {error}", file=sys.stderr)
    write_summary(results, out, comparators, protocol.comparisons)  # includes the panels in the folder
    print(printable(f"Tables and figures of {len(results)} runs: {out}"))


def explain() -> str:
    """Describe the protocols, models and presets."""
    from csl_tracker.evaluation.protocols import load_protocol, shipped_protocols
    from csl_tracker.training.presets import PRESETS

    lines = ["Protocols:"]
    for name in shipped_protocols():
        protocol = load_protocol(name)
        folds = f"{len(protocol.folds)} fold{'s' if len(protocol.folds) > 1 else ''}"
        if protocol.groups_file:
            folds = f"a fold for every group in ROOT/{protocol.groups_file}"
        lines += [f"  {name} ({folds}, dataset {protocol.dataset})", *_wrapped(protocol.description)]
    lines += ["", "Models:"]
    for name, text in STRATEGIES.items():
        lines += [f"  {name}", *_wrapped(text)]
    lines += ["  STRATEGY@key=value,key=value"]
    lines += _wrapped("a variant with its own settings, such as csl@encoder_weights= (random initialisation)")
    lines += ["", f"Presets: {', '.join(PRESETS)} (docs/training.md)"]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="      ", subsequent_indent="      ")


def _allow_settings_anywhere(parser: argparse.ArgumentParser) -> None:
    """Allow key=value after options, too.

    argparse fills a list of positionals only at the first positional, and an option with several values would consume the
    settings after it.
    """
    parse = parser.parse_known_args
    single = {option for action in parser._actions if action.nargs is None for option in action.option_strings}

    def parse_known_args(args: Any = None, namespace: Any = None) -> Any:
        words: list[str] = []
        settings: list[str] = []
        for before, word in zip([None, *args], args, strict=False):
            (settings if _SETTING.match(word) and before not in single else words).append(word)
        found, rest = parse(words, namespace)
        found.overrides = [*found.overrides, *settings]
        return found, rest

    parser.parse_known_args = parse_known_args  # type: ignore[method-assign]
