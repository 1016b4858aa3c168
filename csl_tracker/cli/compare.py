"""``csl-tracker compare``: compare the results of evaluations."""

from __future__ import annotations

import argparse
from pathlib import Path

from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path

EXAMPLE = """examples:
  csl-tracker compare output/before/figures.json output/after/figures.json
  csl-tracker compare base.json one.json two.json --out output/comparison.html

Every file is compared with the first one. Accepts files of evaluate-bag and of evaluate --json for the same ground truth."""

SUFFIXES = (".html", ".md", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument(
        "reports", type=user_path, nargs="+", metavar="JSON", help="files of results; the first one is the baseline"
    )
    parser.add_argument("--out", type=user_path, metavar="FILE", help="also write the comparison: .html, .md or .json")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(args: argparse.Namespace) -> int:
    """Compare, print Markdown, and write the file."""
    from csl_tracker.evaluation.report_changes import compare_reports
    from csl_tracker.evaluation.report_files import read_report
    from csl_tracker.output import write_json, write_text
    from csl_tracker.reporting.changes import as_data, as_html, as_table

    if len(args.reports) < 2:
        raise ConfigError(f"Only the file {args.reports[0]} was named; name two or more to compare.")
    out: Path | None = args.out
    if out is not None and out.suffix not in SUFFIXES:
        raise ConfigError(f"The name {out} of --out ends in none of {', '.join(SUFFIXES)}; use one of these suffixes.")
    if out is not None and out.exists() and any(path.exists() and out.samefile(path) for path in args.reports):
        raise ConfigError(f"The file {out} of --out is one of the compared files; choose another --out.")
    if out is not None and out.exists() and not args.overwrite:
        raise ConfigError(f"The file {out} exists; give --overwrite to replace it, or another --out.")
    first, *others = [read_report(path) for path in args.reports]
    compared = list(zip(others, compare_reports(first, others), strict=True))
    if not any(changes for _, changes in compared):
        raise ConfigError(
            f"The file {first.path} and the others have no figure in common; evaluate against ground truth, and write the"
            " figures with this version."
        )
    tables = [as_table(first, other, changes) for other, changes in compared]
    markdown = "\n\n".join(table.section() for table in tables)
    print(markdown)
    if out is not None:
        if out.suffix == ".json":
            write_json(out, {"comparisons": [as_data(first, other, changes) for other, changes in compared]})
        else:
            write_text(out, as_html(tables) if out.suffix == ".html" else f"{markdown}\n")
        print(f"\nwrote {out}")
    return 0
