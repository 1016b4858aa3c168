"""``csl-tracker train``: train a network from a YAML configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path
from csl_tracker.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "config", nargs="?", type=user_path, metavar="CONFIG.yaml", help="configuration; the built-in ones are in config/train"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the file")
    parser.add_argument("--fresh", action="store_true", help="start again instead of resuming from the last checkpoint")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of a configuration, and exit")


def run(args: argparse.Namespace) -> int:
    """Train, or resume an interrupted training; or print the schema."""
    if args.schema:
        from csl_tracker.training.schemas import schema_text

        print(schema_text("train"), end="")
        return 0
    if args.config is None:
        raise ConfigError("No configuration was named; give the path of one, such as config/train/csl_lite0.yaml.")
    from csl_tracker.provenance import portable_command
    from csl_tracker.training.config import load_config
    from csl_tracker.training.disk import disk_errors

    config = load_config(args.config, args.overrides)  # before slow imports
    from csl_tracker.training.run import train

    command = portable_command(["train", str(args.config), *args.overrides])
    with disk_errors(Path(config.output)):
        path = train(config, command, resume=not args.fresh)
    print(f"Weights: {printable(path)}")
    return 0
