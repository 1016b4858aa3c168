"""What distributions call by different names is asked for in one place."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("rclpy")

from csl_tracker.node import distributions

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(distributions.__file__)
NAMES = ("PublisherEventCallbacks", "SubscriptionEventCallbacks")
MOVED = {"rclpy.event_handler", "rclpy.qos_event"}

pytestmark = pytest.mark.ros


def test_humbles_names_are_taken_where_the_newer_module_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    humble = ModuleType("rclpy.qos_event")
    for name in NAMES:
        setattr(humble, name, f"Humble's {name}")
    monkeypatch.setitem(sys.modules, "rclpy.event_handler", None)
    monkeypatch.setitem(sys.modules, "rclpy.qos_event", humble)
    found = runpy.run_path(str(HOME))
    assert [found[name] for name in NAMES] == [f"Humble's {name}" for name in NAMES]


def test_a_broken_rclpy_is_not_taken_for_humble(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("rclpy.event_handler")  # there, and without the names
    monkeypatch.setitem(sys.modules, "rclpy.event_handler", broken)
    with pytest.raises(ImportError, match=r"rclpy\.event_handler"):
        runpy.run_path(str(HOME))


def test_nobody_else_imports_the_module_that_moved() -> None:
    others = [
        path for folder in ("csl_tracker", "benchmark", "examples", "launch", "test") for path in (ROOT / folder).rglob("*.py")
    ]
    assert HOME in others
    found = {
        path
        for path in others
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in MOVED
    }
    assert found == {HOME}
