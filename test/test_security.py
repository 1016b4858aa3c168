"""What the package never does: open a pickle, run text as code, talk to the network, write where nobody told it to."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

PACKAGE = Path(__file__).parents[1] / "csl_tracker"
SOURCES = sorted(PACKAGE.rglob("*.py"))

FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),  # read a file, run what is in it
    *("http", "urllib.request", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "xmlrpc", "websockets"),
    *("torch.hub", "huggingface_hub", "timm"),  # fetch weights
}
ALLOWED_ONLY = {
    "socket": {"node/processes.py"},  # to find a DDS domain that nobody uses: it binds, and sends nothing
    "subprocess": {"node/processes.py", "node/cv_bridge.py"},  # the demo's nodes; to try out cv_bridge
}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load"}
NEEDED_ARGUMENTS = {"torch.load": {"weights_only": True}}
FORBIDDEN_ARGUMENTS = {"shell": True, "allow_pickle": True}


def complaints(source: str, name: str) -> Iterator[str]:
    """What a module must not do, with the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from forbidden_imports([alias.name for alias in node.names], name, node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from forbidden_imports(modules, name, node.lineno)
        elif isinstance(node, ast.Call):
            yield from forbidden_calls(node, name)


def forbidden_imports(modules: list[str], name: str, line: int) -> Iterator[str]:
    for module in modules:
        parents = {module.rsplit(".", depth)[0] for depth in range(module.count(".") + 1)}
        for found in sorted(parents & (FORBIDDEN_MODULES | set(ALLOWED_ONLY))):
            if name not in ALLOWED_ONLY.get(found, ()):
                yield f"{name}:{line} imports {found}"


def forbidden_calls(node: ast.Call, name: str) -> Iterator[str]:
    called = ast.unparse(node.func)
    given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    if called in FORBIDDEN_CALLS:
        yield f"{name}:{node.lineno} calls {called}"
    for word, value in NEEDED_ARGUMENTS.get(called, {}).items():
        if given.get(word) is not value:
            yield f"{name}:{node.lineno} calls {called} without {word}={value}"
    for word, value in FORBIDDEN_ARGUMENTS.items():
        if given.get(word) is value:
            yield f"{name}:{node.lineno} calls {called} with {word}={value}"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import pickle", "imports pickle"),
        ("from urllib import request", "imports urllib.request"),
        ("import urllib.request as r", "imports urllib.request"),
        ("import socket", "imports socket"),
        ("def f():\n    from torch import hub", "imports torch.hub"),
        ("import torch\ntorch.load(p)", "without weights_only=True"),
        ("import torch\ntorch.load(p, weights_only=False)", "without weights_only=True"),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", "allow_pickle=True"),
        ("yaml.load(text)", "calls yaml.load"),
        ("eval(text)", "calls eval"),
        ("run(text, shell=True)", "shell=True"),
    ],
)
def test_the_search_finds_what_it_looks_for(source: str, words: str) -> None:
    assert any(words in complaint for complaint in complaints(source, "x.py"))


@pytest.mark.parametrize("source", ["network.eval()", "torch.load(p, weights_only=True)", "from urllib.parse import quote"])
def test_the_search_lets_the_rest_be(source: str) -> None:
    assert not list(complaints(source, "x.py"))


def test_no_module_does_what_none_may_do() -> None:
    assert len(SOURCES) > 50
    found = [
        complaint
        for path in SOURCES
        for complaint in complaints(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix())
    ]
    assert not found


AUDIT = """
import atexit, json, os, sys, tempfile
tempfile.gettempdir()  # tries once whether it can be written to; torch imports dill, where it is installed, which asks for it
seen = {"network": [], "forked": [], "written": []}
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        seen["network"].append([event, repr(arguments)])
    elif event == "subprocess.Popen" and arguments[1][1:] == ["-p"] and arguments[0].endswith("/ldconfig"):
        pass  # torch's build for CUDA asks ctypes which libraries there are
    elif event in ("os.fork", "os.forkpty", "subprocess.Popen"):  # a child's doings would not be seen here
        seen["forked"].append(repr(arguments))
    elif event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen["written"].append(os.path.realpath(arguments[0]))
    elif event in ("os.mkdir", "os.rename", "os.link", "os.symlink") and isinstance(arguments[0], str):
        seen["written"].append(os.path.realpath(arguments[0]))
atexit.register(lambda: print(json.dumps(seen)))
sys.addaudithook(hook)
"""
"""What CPython itself tells of (PEP 578); ``test_confinement.py`` covers compiled libraries by taking network and disk away."""


def audited(code: str, folder: Path) -> dict[str, list[str]]:
    """Run code in a new Python with an empty home, and return what it did to network and disk."""
    (folder / "home").mkdir()
    environment = {
        **os.environ,
        "HOME": str(folder / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(PACKAGE.parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", AUDIT + code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_the_audit_sees_network_children_and_files(tmp_path: Path) -> None:
    code = (
        "import socket; socket.getaddrinfo('127.0.0.1', 9); open(os.devnull, 'w').close(); os.fork() or os._exit(0); os.wait()"
    )
    seen = audited(code, tmp_path)
    assert [event for event, _ in seen["network"]] == ["socket.getaddrinfo"]
    assert len(seen["forked"]) == 1
    assert seen["written"] == [os.devnull]


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_tracking_needs_no_network_and_writes_its_folder_alone(quick_weights: Path, tmp_path: Path, engine: str) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(2):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((48, 64, 3), 60 * index, np.uint8))
    arguments = ["track", "frames", "--weights", str(quick_weights), "--output", "out", "--device", "cpu", "--engine", engine]
    seen = audited(
        f"from csl_tracker.cli.main import main\nassert main({arguments!r}) == 0\nsys.stdout.flush()",
        tmp_path,
    )
    assert (seen["network"], seen["forked"]) == ([], [])
    own = str(tmp_path / "out")
    assert [path for path in seen["written"] if path != own and not path.startswith((own + os.sep, "/dev/"))] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "home", "out"]
    assert not list((tmp_path / "home").iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["overlay.mp4", "poses.csv", "poses.json"]
