"""Mutation tests of the core: change the code one term at a time, and see which changes no test notices.

    pip install -r requirements/mutation.txt
    python tools/mutation.py               # continues where an earlier run ended; Ctrl-C is safe
    python tools/mutation.py --again       # first forget the survivors' results: after new tests
    python tools/mutation.py --collect     # only write the results of earlier runs

mutmut makes and tests the mutants in ``mutants/``; ``[tool.mutmut]`` in pyproject.toml names the modules and tests. The score
of each module and all survivors go into docs/results/mutation.json, and the table into CONTRIBUTING.md. Every survivor needs a
reason in test/mutation_survivors.yaml. The exit status is 1 if a reason is missing or no longer needed, or if mutants are left
to test.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from csl_tracker.output import write_between, write_json  # noqa: E402
from csl_tracker.provenance import machine, sha256_of, versions  # noqa: E402
from csl_tracker.reporting.table import markdown  # noqa: E402
from csl_tracker.yaml_files import read_yaml  # noqa: E402

MUTANTS = ROOT / "mutants"
REASONS = ROOT / "test" / "mutation_survivors.yaml"
RESULT = ROOT / "docs" / "results" / "mutation.json"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- mutation: tools/mutation.py -->", "<!-- end of mutation -->"
STATUSES = ("killed", "timeout", "survived", "no tests", "crashed", "not tested")
DETECTED = ("killed", "timeout")

# pytest's exit codes and those of mutmut; others, such as a signal's, are crashes.
_STATUS_OF_CODE: dict[int | None, str] = {
    None: "not tested",
    2: "not tested",  # interrupted
    0: "survived",
    1: "killed",
    3: "killed",
    5: "no tests",
    33: "no tests",
    24: "timeout",
    -24: "timeout",
    36: "timeout",
    152: "timeout",
    255: "timeout",
}


@dataclass(frozen=True)
class Mutant:
    """A changed copy of a function.

    Attributes:
        module: Path of the module, relative to the repository.
        function: Name of the function, with its class.
        status: One of ``STATUSES``.
        removed: The lines of the function that were changed.
        added: The lines that replace them.
    """

    module: str
    function: str
    status: str
    removed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def change(self) -> str:
        """The new lines, or the removed ones after a minus: names the mutant whatever its number."""
        return " ".join(self.added) if self.added else " ".join(("-", *self.removed))

    @property
    def key(self) -> tuple[str, str, str]:
        """Module, function and change."""
        return self.module, self.function, self.change


def read_mutants(folder: Path) -> list[Mutant]:
    """The mutants of all modules and their results.

    Args:
        folder: The folder that mutmut writes.
    """
    found = []
    for meta in sorted(folder.rglob("*.py.meta")):
        source = meta.with_suffix("")
        functions = _functions(source.read_text(encoding="utf-8"))
        for name, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            mangled = name.rpartition(".")[2]
            function, _, number = mangled.rpartition("__mutmut_")
            removed, added = _difference(functions[f"{function}__mutmut_orig"], functions[mangled], number)
            status = _STATUS_OF_CODE.get(code, "crashed")
            found.append(Mutant(source.relative_to(folder).as_posix(), _plain_name(function), status, removed, added))
    return found


def _functions(source: str) -> dict[str, list[str]]:
    """Lines of each function or method of a module."""
    lines = source.splitlines()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return {node.name: lines[node.lineno - 1 : node.end_lineno] for node in nodes}


def _difference(before: Sequence[str], after: Sequence[str], number: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Removed and added lines; mutmut does not change the indentation of statements, but that of brackets."""
    before = [line.replace("__mutmut_orig", "").strip() for line in before]
    after = [line.replace(f"__mutmut_{number}", "").strip() for line in after]
    lines = list(difflib.ndiff(before, after))
    return tuple(line[2:] for line in lines if line[0] == "-"), tuple(line[2:] for line in lines if line[0] == "+")


def _plain_name(mangled: str) -> str:
    """``x_f`` is f; ``x`` and class and method after a separator each is Class.method."""
    _, *parts = mangled.split("\N{LATIN LETTER LATERAL CLICK}")
    return ".".join(parts) if parts else mangled.removeprefix("x_")


def read_reasons(path: Path) -> dict[tuple[str, str, str], str]:
    """Reasons by module, function and change.

    Raises:
        DatasetError: The file cannot be read.
        ValueError: A change has two reasons.
    """
    reasons: dict[tuple[str, str, str], str] = {}
    for entry in read_yaml(path, "The file of reasons"):
        for module, functions in entry["mutants"].items():
            for function, changes in functions.items():
                for change in changes:
                    if reasons.setdefault((module, function, change), entry["reason"]) is not entry["reason"]:
                        raise ValueError(f"{path.name} has two reasons for {function} in {module}: {change}")
    return reasons


def collect(mutants: Sequence[Mutant], reasons: Mapping[tuple[str, str, str], str]) -> tuple[dict[str, Any], list[str]]:
    """The results as plain data, and what is wrong with them, in sentences."""
    modules = dict.fromkeys(mutant.module for mutant in mutants)
    left = [mutant for mutant in mutants if mutant.status not in (*DETECTED, "not tested")]
    survivors = [
        {
            "module": mutant.module,
            "function": mutant.function,
            "removed": list(mutant.removed),
            "added": list(mutant.added),
            "status": mutant.status,
            "reason": reasons.get(mutant.key),
        }
        for mutant in left
    ]
    problems = [f"No reason in {REASONS.name}: {' | '.join(m.key)} ({m.status})" for m in left if m.key not in reasons]
    untested = sum(mutant.status == "not tested" for mutant in mutants)
    if untested:
        problems.append(f"{untested} mutants are not tested yet; run this again.")
    else:
        unused = [key for key in reasons if key not in {mutant.key for mutant in left}]
        problems += [f"No such survivor, remove it from {REASONS.name}: {' | '.join(key)}" for key in unused]
    data = {
        "modules": {module: score([m for m in mutants if m.module == module]) for module in modules},
        "all": score(mutants),
        "survivors": survivors,
    }
    return data, problems


def score(mutants: Iterable[Mutant]) -> dict[str, Any]:
    """Number of mutants by status, and the share that tests detect."""
    of = Counter(mutant.status for mutant in mutants)
    share = sum(of[status] for status in DETECTED) / of.total() if of else None
    return {"mutants": of.total(), **{status.replace(" ", "_"): of[status] for status in STATUSES}, "score": share}


def table(result: Mapping[str, Any]) -> str:
    """The scores as Markdown."""
    rows = [
        (
            name,
            of["mutants"],
            of["killed"] + of["timeout"],
            of["mutants"] - of["killed"] - of["timeout"],
            f"{100 * of['score']:.1f} %",
        )
        for name, of in {**{f"`{name}`": of for name, of in result["modules"].items()}, "all": result["all"]}.items()
    ]
    return markdown(("module", "mutants", "detected", "survivors", "score"), rows, right=range(1, 5))


def inputs(folder: Path, root: Path) -> list[Path]:
    """The mutated modules and the tests that ran."""
    modules = [meta.relative_to(folder).with_suffix("").as_posix() for meta in folder.rglob("*.py.meta")]
    tests = json.loads((folder / "mutmut-stats.json").read_text(encoding="utf-8"))["duration_by_test"]
    return [root / name for name in sorted({*modules, *(test.partition("::")[0] for test in tests)})]


def seconds(folder: Path) -> float:
    """Time that the tests of all mutants took, s."""
    metas = [json.loads(meta.read_text(encoding="utf-8")) for meta in folder.rglob("*.py.meta")]
    return float(sum(sum(meta["durations_by_key"].values()) for meta in metas))


def forget_survivors(folder: Path) -> None:
    """Remove the results of mutants that no test detected, so that the next run tests them again."""
    for path in folder.rglob("*.py.meta"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        codes = meta["exit_code_by_key"]
        for name, code in codes.items():
            codes[name] = code if _STATUS_OF_CODE.get(code, "crashed") in DETECTED else None
        write_json(path, meta)


def run_mutmut(children: int) -> int:
    """Test the mutants that have no result yet.

    Returns:
        The exit status; 130 after Ctrl-C, when mutmut has stored the results so far.
    """
    folders = (str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    program = shutil.which("mutmut", path=os.pathsep.join(folders))
    if program is None:
        raise SystemExit("mutmut is not installed; pip install -r requirements/mutation.txt")
    # The mutants must be found before the package itself.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    process = subprocess.Popen([program, "run", "--max-children", str(children)], cwd=ROOT, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        return 130


def main() -> int:
    """Run mutmut and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--again", action="store_true", help="test the survivors of earlier runs again")
    what.add_argument("--collect", action="store_true", help="test nothing; write the results of earlier runs")
    parser.add_argument("--max-children", type=int, default=1, help="mutants tested at once (default: %(default)s)")
    args = parser.parse_args()
    if args.again:
        forget_survivors(MUTANTS)
    if not args.collect and (status := run_mutmut(args.max_children)):
        return status
    if not (MUTANTS / "mutmut-stats.json").exists():
        raise SystemExit(f"There are no results in {MUTANTS}; run this without --collect.")
    data, problems = collect(read_mutants(MUTANTS), read_reasons(REASONS))
    result = {
        "command": "python tools/mutation.py",
        "machine": machine(),
        "versions": {**versions(), **{name: metadata.version(name) for name in ("pytest", "mutmut")}},
        "input_sha256": sha256_of(inputs(MUTANTS, ROOT)),
        "seconds": seconds(MUTANTS),
        **data,
    }
    write_json(RESULT, result)
    write_between(PAGE, BEGIN, END, table(result))
    print(table(result))
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
