"""The structure of the package, read from its imports: draw it, and find imports that run up or in a circle.

    python tools/structure.py              # check; exit status 1 where a rule is broken
    python tools/structure.py --write      # draw the picture of docs/architecture.md anew

The rooms and their order are those of :data:`ROOMS`: a module imports from its own room and from those below it.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "csl_tracker"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- structure: begin -->", "<!-- structure: end -->"

# Room -> (its level, 0 is the top; what it is).
ROOMS: dict[str, tuple[int, str]] = {
    "cli": (0, "commands"),
    "node": (1, "ROS 2 nodes"),
    "reporting": (2, "tables, plots, pages"),
    "labelling": (3, "frames worth labelling"),
    "training": (3, "configuration, runs, experiments"),
    "evaluation": (4, "metrics, protocols, statistics"),
    "bags": (5, "recordings"),
    "messages": (6, "the wire"),
    "tracker": (6, "an image in, instruments out"),
    "engines": (7, "run a network"),
    "datasets": (8, "layouts, generator"),
    "weights": (9, "one file a model"),
    "stereo": (9, "two cameras"),
    "networks": (10, "encoders, decoders"),
    "core": (11, "heatmaps, grouping, identity, pixels, files"),
}
IN_ROOT = {
    "tracker": ("tracker", "rectification"),
    "weights": ("weights", "weights_checks", "losses"),
}
"""Rooms whose modules lie in the package's root; those that are in none belong to ``core``."""


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name without the package's."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Iterable[str]) -> set[str]:
    """Modules of the package that a file imports, at its top or in a function; imports for types alone are left out."""
    names = set(known)
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            given = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            given = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.removeprefix(f"{PACKAGE}.") for name in given if name.startswith(f"{PACKAGE}.")} & names
    return found


def room_of(module: str) -> str:
    """The room of a module."""
    first = module.partition(".")[0]
    for room, members in IN_ROOT.items():
        if first in members:
            return room
    return first if first in ROOMS and first not in (*IN_ROOT, "core") else "core"


def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    found = modules()
    return {name: imports(path, found) - {name, ""} for name, path in found.items() if name}


def upward(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Imports from a room to one that does not lie below it."""
    problems = []
    for module, targets in edges.items():
        for target in sorted(targets):
            own, other = room_of(module), room_of(target)
            if own != other and ROOMS[own][0] >= ROOMS[other][0]:
                problems.append(f"{module} imports {target}: {other} does not lie below {own}")
    return problems


def circles(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Modules that import each other in a circle: the strongly connected components of more than one (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in edges.get(module, ()):
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            component = [stack.pop()]
            while component[-1] != module:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(" -> ".join(sorted(component)))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def picture(edges: Mapping[str, Iterable[str]]) -> str:
    """The rooms as a Mermaid diagram. An arrow that a longer way implies is left out."""
    arrows: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, targets in edges.items():
        arrows[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    reachable: dict[str, set[str]] = {}
    for room in sorted(ROOMS, key=lambda name: -ROOMS[name][0]):
        reachable[room] = set().union(*({target} | reachable.get(target, set()) for target in arrows[room]))
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'  {room}["<b>{room}</b><br/>{text}"]' for room, (_, text) in ROOMS.items()]
    for room in ROOMS:
        implied = set().union(*(reachable[target] for target in arrows[room]))
        lines += [f"  {room} --> {target}" for target in ROOMS if target in arrows[room] - implied]
    return "\n".join([*lines, "```"])


def with_picture(page: str, drawn: str) -> str:
    """A page with the picture between its marks.

    Raises:
        ValueError: The page has no marks.
    """
    before, mark, rest = page.partition(BEGIN)
    _, other, after = rest.partition(END)
    if not mark or not other:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{drawn}\n{END}{after}"


def main() -> int:
    """Check, or write the picture.

    Returns:
        0, or 1 where a rule is broken or the picture is old.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="draw the picture of docs/architecture.md anew")
    args = parser.parse_args()
    edges = graph()
    problems = [*upward(edges), *(f"a circle of imports: {circle}" for circle in circles(edges))]
    page = PAGE.read_text(encoding="utf-8")
    drawn = with_picture(page, picture(edges))
    if args.write:
        PAGE.write_text(drawn, encoding="utf-8")
    elif drawn != page:
        problems.append("the picture of docs/architecture.md is old: python tools/structure.py --write")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
