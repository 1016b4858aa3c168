import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
OTHER_PAGES = ("docs/results/README.md", "csl_tracker/models/MODEL_CARD.md")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *(ROOT / page for page in OTHER_PAGES)]


def test_the_figures_of_the_pages_are_those_of_the_committed_files() -> None:
    """Nobody writes a result by hand: the tables are made from docs/results."""
    module = runpy.run_path(str(ROOT / "benchmark" / "results_table.py"))
    assert module["summary"]() in (ROOT / "README.md").read_text(encoding="utf-8")
    assert module["tables"]() in (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
    card = ROOT / "csl_tracker" / "models" / "MODEL_CARD.md"
    assert module["model_card"]() in card.read_text(encoding="utf-8")
    assert module["recipe"]() in (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
    assert module["strategies"]() in (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
    assert module["sizes"]() in (ROOT / "docs" / "node.md").read_text(encoding="utf-8")
    for folder in module["PAIRS_OF"]:
        assert module["pairs"](folder) in (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
    assert module["robustness"]() in (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert module["presets"]() in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert module["history"]() in (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("script", "function", "results", "page"),
    [
        ("engines.py", "table", "engines", "engines.md"),
        ("latency.py", "tables", "latency", "engines.md"),
        ("training.py", "table", "training_speed", "training.md"),
        ("roofline.py", "table", "roofline", "engines.md"),
        ("coverage.py", "table", "coverage", "evaluation.md"),
    ],
)
def test_the_tables_of_measurements_are_those_of_their_files(script: str, function: str, results: str, page: str) -> None:
    table = runpy.run_path(str(ROOT / "benchmark" / script))[function]
    assert table(_results(results)).strip() in (ROOT / "docs" / page).read_text(encoding="utf-8")


def test_the_benchmarks_figures_are_those_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmark.bench import tables

    accuracy = ROOT / "docs" / "results" / "bench_accuracy.json"
    trained = json.loads(accuracy.read_text(encoding="utf-8")) if accuracy.is_file() else None
    assert tables.page(_results("bench"), trained) in (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")


def test_the_overhead_of_a_later_run_is_that_of_its_file() -> None:
    groups = _results("bench_overhead")["nodes"]
    found = [f"{a['inside']['overhead_ms']['p50']:.1f}" for g in groups for a in g["rates"] if a["rate_hz"] == 30]
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert "{} ms of overhead at 30 Hz without and {} ms with segmentation, {} and {} ms at 1920x1080.".format(*found) in page


def test_the_rates_of_reading_are_those_of_their_file() -> None:
    results = _results("bags")
    rows = []
    for name, found in results["inputs"].items():
        minutes = found["frames"] / results["fps"] / 60
        times = found["times_real_time"]
        rows.append(f"| {name} | {minutes:.0f} min | {times:.{0 if times >= 10 else 1}f} | {found['peak_rss_mb']:.0f} MB |")
    assert len(rows) == 5
    assert "\n".join(rows).replace("h264", "H.264") in (ROOT / "docs" / "bags.md").read_text(encoding="utf-8")


def test_soak_and_lease_are_those_of_their_files() -> None:
    page = (ROOT / "docs" / "node.md").read_text(encoding="utf-8")
    soak, lease = _results("soak"), _results("lease")
    memory = soak["memory_mb"]
    assert f"{soak['frames_shown']:,} frames" in page
    assert f"{soak['pose_arrays']:,} tracked" in page
    assert f"memory {memory['first']:.0f} MB at first, {memory['last']:.0f} MB at last" in page
    for fault, words in (("stopped", "stopped {} of {} times, {:.0f} ms"), ("hanging", "hanging worker {} of {}, {:.0f} ms")):
        found = lease[fault]["liveliness_lost_ms"]
        assert words.format(found["noticed"], lease["trials"], found["max"]) in page
    assert lease["followed"]["false_alarms"] == 1
    assert f"one false alarm in {lease['followed']['seconds']:.0f} s" in page
    assert lease["silent_camera_10_s"]["liveliness_lost"] == 0


def test_the_random_walk_is_that_of_its_file() -> None:
    walk = _results("random_walk")
    first, last = walk["samples"][0], walk["samples"][-1]
    memory = [sample["memory_mb"] for sample in walk["samples"]]
    done = walk["calls"]["transition, done"]
    assert walk["last_frame_tracked"]
    assert (
        f"all {sum(walk['calls'].values()):,} calls answered ({done} transitions done) during {walk['images_shown']:,} images;"
        f" the last frame is tracked; exit status {walk['exit_status']}, {walk['tracebacks']} tracebacks; memory"
        f" {first['memory_mb']:.0f} MB at first, {max(memory):.0f} MB at most, {last['memory_mb']:.0f} MB at last; threads"
        f" {first['threads']} and {last['threads']}"
    ) in (ROOT / "docs" / "node.md").read_text(encoding="utf-8")


def _results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


TESTS = sorted((ROOT / "test").rglob("*.py"))
EVIDENCE = re.compile(r"`(?P<file>[\w/]+\.py)`|`(?P<test>test_\w+)`|\[`(?P<results>[\w/]+\.json)`\]")


@pytest.mark.parametrize(("page", "head"), [("node.md", "fault"), ("security.md", "what"), ("security.md", "claim")])
def test_every_fault_has_evidence_that_exists(page: str, head: str) -> None:
    """The last column names files of tests, tests in the file before them, or committed figures."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = re.search(rf"^\| {head} \|.* evidence \|\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None
    rows = [row.strip("|\n ").split(" | ") for row in table[1].splitlines()]
    assert len(rows) >= 9
    for row in rows:
        evidence = row[-1].strip()
        if evidence == "the same" or "**not tested**" in evidence:  # as the row above
            continue
        found = list(EVIDENCE.finditer(evidence))
        assert found, row
        tests = ""
        for item in found:
            if item["results"]:
                assert (ROOT / "docs" / item["results"]).is_file(), row
            elif item["file"]:
                files = [path for path in TESTS if f"/{path.relative_to(ROOT)}".endswith(f"/{item['file']}")]
                assert len(files) == 1, (item["file"], row)
                tests = files[0].read_text(encoding="utf-8")
            else:
                assert re.search(rf"^\s*(async )?def {item['test']}\(", tests, re.MULTILINE), (item["test"], row)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    from csl_tracker.cli.main import COMMANDS

    named = set(re.findall(r"^csl-tracker ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= set(COMMANDS)
