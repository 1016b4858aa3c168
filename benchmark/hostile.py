"""Gives hostile files to every reader, each in a process of its own, and notes what it says, takes and how long.

    python benchmark/hostile.py --json docs/results/hostile.json
    python benchmark/hostile.py --table docs/results/hostile.json --page docs/security.md

A row is good where the command ends with one sentence and exit status 2, or does its work where the file can be used in spite
of what is wrong with it, and where it takes less than 1 GB and 10 s, the start of Python and its libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hostile_cases import Case, cases

from csl_tracker.import_path import python_command, safe_environment
from csl_tracker.output import print_or_write_between, write_json
from csl_tracker.provenance import machine, portable, versions
from csl_tracker.reporting.table import markdown

LIMIT_MB = 1000.0
LIMIT_S = 10.0
KILL_MB = 6000.0
KILL_S = 120.0
POLL_S = 0.02
BEGIN, END = "<!-- table of benchmark/hostile.py -->", "<!-- end of the table -->"


def run(case: Case) -> dict[str, Any]:
    """Build the file, give it to its reader, and watch."""
    with tempfile.TemporaryDirectory(prefix="hostile.") as name:
        place = Path(name)
        path = case.make(place)
        size = path.stat().st_size if path.is_file() else sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
        words = {"FILE": str(path), "OUT": str(place / "out"), "FOLDER": str(path.parent)}
        arguments = [
            word.replace("OUT/", f"{place}/out/") if word.startswith("OUT/") else words.get(word, word) for word in case.command
        ]
        environment = {**os.environ, **safe_environment(), "XDG_CACHE_HOME": str(place / "cache"), "TMPDIR": name}
        before = set(place.parent.iterdir())
        with (place / "said").open("wb+") as said:
            process = subprocess.Popen(
                python_command("-m", "csl_tracker.cli.main", *arguments),
                cwd=place,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            peak_mb, seconds, cpu_s, status, killed = watch(process)
            said.seek(0)
            output = said.read(1 << 20).decode("utf-8", "replace")
        outside = sorted(item.name for item in set(place.parent.iterdir()) - before if "outside" in item.name)
    return {
        "kind": case.kind,
        "case": case.name,
        "command": " ".join(("csl-tracker", *case.command)),
        "bytes": size,
        **judge(case, status, output.replace(str(place), "FOLDER"), killed, outside),
        "peak_mb": round(peak_mb, 1),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_s, 2),
    }


def watch(process: subprocess.Popen[bytes]) -> tuple[float, float, float, int, str]:
    """Wait for the end: peak of its memory (MB), wall and processor time (s), exit status, and why it was killed."""
    began, peak_mb, killed = time.monotonic(), 0.0, ""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - began
            return peak_mb, seconds, usage.ru_utime + usage.ru_stime, process.returncode, killed
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        peak_mb = max([peak_mb, *(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:"))])
        if not killed and (peak_mb > KILL_MB or time.monotonic() - began > KILL_S):
            killed = "memory" if peak_mb > KILL_MB else "time"
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(POLL_S)


def judge(case: Case, status: int, output: str, killed: str, outside: Sequence[str]) -> dict[str, Any]:
    """What the command did, and whether that was right."""
    lines = [line for line in output.splitlines() if line.startswith("csl-tracker: ")]
    raw = any(letter in output for letter in "\x1b\x07\x9b")
    traceback = "Traceback (most recent call last)" in output
    sentence = lines[0].removeprefix("csl-tracker: ") if len(lines) == 1 else ""
    if killed:
        outcome = f"killed: {killed}"
    elif status == 2 and sentence and not traceback:
        outcome = "refused in one sentence"
    elif status == 0 and not traceback:
        outcome = "read"
    else:
        outcome = f"failed with status {status}"
    expected = "read" if case.usable else "refused in one sentence"
    right = outcome == expected and case.says in output and not raw and not outside
    return {"outcome": outcome, "right": right, "sentence": sentence or (output.strip().splitlines() or [""])[-1][:300]}


def within(row: dict[str, Any], limit_s: float = LIMIT_S) -> bool:
    """Whether a row is as it should be."""
    return bool(row["right"] and row["peak_mb"] < LIMIT_MB and row["seconds"] < limit_s)


def table(report: dict[str, Any]) -> str:
    """One row for each kind of file, in Markdown; the JSON has one for each file."""
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in report["rows"]):
        found = [row for row in report["rows"] if row["kind"] == kind]
        wrong = [row["case"] for row in found if not row["right"]]
        usable = [row["case"] for row in found if row["right"] and row["outcome"] == "read"]
        refused = f"{len(found) - len(wrong) - len(usable)} of {len(found)}"
        usable_text = "; ".join([*usable, *(f"**{case}: neither**" for case in wrong)])
        memory, seconds = (max(row[key] for row in found) for key in ("peak_mb", "seconds"))
        rows.append((kind, refused, usable_text, f"{memory:.0f} MB", f"{seconds:.1f} s"))
    return markdown(("files", "refused in one sentence", "read", "largest memory", "longest time"), rows, right=(3, 4))


def main() -> int:
    """Run them, or print the table of what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the rows go")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="cases whose kind or name has one of these words")
    parser.add_argument("--add", action="store_true", help="keep the other rows of --json")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the table of such a file, and run nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --table: put it into this page, between its marks")
    args = parser.parse_args()
    if args.table is not None:
        print_or_write_between(args.page, BEGIN, END, table(json.loads(args.table.read_text(encoding="utf-8"))))
        return 0
    chosen = [case for case in cases() if not args.only or any(word in f"{case.kind}: {case.name}" for word in args.only)]
    if not chosen or not Path("/proc/self/status").exists():
        parser.error("no case has one of these words, or there is no /proc to read the memory from")
    rows: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    commands = [shlex.join(["python", "benchmark/hostile.py", *(str(portable(word)) for word in sys.argv[1:])])]
    if args.add:
        done = {(case.kind, case.name) for case in chosen}
        before = json.loads(args.json.read_text(encoding="utf-8"))
        kept = [row for row in before["rows"] if (row["kind"], row["case"]) not in done]
        commands.insert(0, before["command"])
    order = {(case.kind, case.name): number for number, case in enumerate(cases())}
    for case in chosen:
        rows.append(run(case))
        row = rows[-1]
        mark = "ok  " if within(row) else "FAIL"
        took = f"{row['peak_mb']:.0f} MB, {row['seconds']:.1f} s, of a processor {row['cpu_seconds']:.1f} s"
        print(f"{mark} {row['kind']}: {row['case']}: {row['outcome']}, {took}", flush=True)
        if not within(row):
            print(f"     {row['sentence']}", flush=True)
        if args.json is not None:  # after each, since all take minutes
            report = {
                "command": " && ".join(commands),
                "machine": machine(),
                "versions": versions(),
                "limits": {"peak_mb": LIMIT_MB, "seconds": LIMIT_S},
                "rows": sorted([*kept, *rows], key=lambda row: order.get((row["kind"], row["case"]), len(order))),
            }
            write_json(args.json, report)
    return int(not all(map(within, rows)))


if __name__ == "__main__":
    sys.exit(main())
