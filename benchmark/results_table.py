"""Prints the tables of results from the committed JSON files in ``docs/results``; a test holds the pages to them.

``python benchmark/results_table.py --write`` puts them between the markers in README.md, docs/measured.md, the model card,
docs/training.md, docs/evaluation.md and docs/results/README.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from csl_tracker.reporting.robustness import summary as robustness_summary
from csl_tracker.reporting.table import markdown
from csl_tracker.weights import MODELS_DIR, find_weights, read_description, shipped_weights

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from benchmark import coverage, landmark_table, presets_table  # noqa: E402
from benchmark.gpu_steps import tables as gpu_tables  # noqa: E402

RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- results: benchmark/results_table.py -->", "<!-- end of results -->"
SUMMARY_BEGIN, SUMMARY_END = "<!-- summary: benchmark/results_table.py -->", "<!-- end of summary -->"
STRATEGIES_BEGIN, STRATEGIES_END = "<!-- strategies: benchmark/results_table.py -->", "<!-- end of strategies -->"
PAIRS_OF = ("synthetic", "endovis_loso", "endovis_loso_800")
"""Experiments whose comparisons stand in docs/results/README.md."""
ROBUSTNESS_BEGIN, ROBUSTNESS_END = "<!-- robustness: benchmark/results_table.py -->", "<!-- end of robustness -->"
COVERAGE_BEGIN, COVERAGE_END = "<!-- coverage: benchmark/coverage.py -->", "<!-- end of coverage -->"
SIZES_BEGIN, SIZES_END = "<!-- sizes: benchmark/results_table.py -->", "<!-- end of sizes -->"
PRESETS_BEGIN, PRESETS_END = "<!-- presets: benchmark/results_table.py -->", "<!-- end of presets -->"


def _load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return data


def _number(value: float | None, digits: int = 1) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"


def _accuracy_row(label: str, figures: dict[str, Any]) -> list[str]:
    center = figures["landmarks"]["center"]
    error, everything = center["landmark_error_px"], figures["landmark_error_px"]
    return [
        label,
        str(figures["frames"]),
        _number(figures["dice"], 3),
        str(center["visible"]),
        f"{_number(error['mean'])} / {_number(error['median'])}",
        _number(center["threshold_score_20px"], 3),
        str(sum(part["visible"] for part in figures["landmarks"].values())),
        f"{_number(everything['mean'])} / {_number(everything['median'])}",
        _number(figures["miss_rate"], 3),
        _number(figures["false_positive_rate"], 3),
    ]


_COLUMNS = (
    "sequence",
    "frames",
    "DICE",
    "visible `center`",
    "`center`, mean / median px",
    "`center` within 20 px",
    "visible landmarks",
    "all landmarks, mean / median px",
    "missed",
    "false",
)


def shipped_table() -> str:
    """The shipped weights on held-out synthetic and on real sequences, Markdown; for the model card."""
    about = (
        f"The shipped weights {' and '.join(f'`{name}`' for name in shipped_weights())}, trained on synthetic frames alone; the"
        " real sequences are of EndoVis 2015 (720x576):"
    )
    rows = []
    for file, kind in (("synthetic", "synthetic, held out"), ("endovis2015", "real, never trained on")):
        found = {name: _load(f"{name}_{file}.json")["sequences"] for name in shipped_weights()}
        rows += [
            [name, *_accuracy_row(f"{kind}: {sequence}", found[name][sequence])]
            for sequence in found[shipped_weights()[0]]
            for name in found
        ]
    return f"{about}\n\n{markdown(('weights', *_COLUMNS), rows)}"


def model_card() -> str:
    """The figures of the model card, Markdown."""
    return f"{shipped_table()}\n\n{''.join(map(_training, shipped_weights()))}\n{left_right()}"


def _training(name: str) -> str:
    """How shipped weights were made, a line of a list."""
    provenance = read_description(find_weights(name)).provenance
    settings, validation = provenance["configuration"], provenance["validation"]
    return (
        f"- `{name}`: {provenance['steps']} steps of {settings['batch_size']} crops, seed {settings['seed']},"
        f" {provenance['seconds'] / 60:.0f} minutes on CPU cores that other work shared, begun from"
        f" {settings.get('init_weights') or 'ImageNet'}. On {settings['validation'][0]['frames']} held-out synthetic scenes at"
        f" its end: DICE {validation['val/dice']:.3f}, loss {validation['val/loss']:.3f}.\n"
    )


def left_right() -> str:
    """Whether the heatmaps know the left clasper from the right one: the first weights and those that are shipped, Markdown."""
    about = (
        "Instruments whose clasper tips are far enough apart, and on how many of them the heatmaps are higher at the right tip"
        " (a half is chance); the margin is in shares of a full peak:"
    )
    rows = []
    for name, label in (("without_side", "first, without the task"), ("csl_lite0", "shipped, with it")):
        for file, frames in (
            ("synthetic", "synthetic, held out"),
            ("endovis2015", "real Dataset1 and Dataset2, never trained on"),
        ):
            found = _load(f"left_right_{file}.json")["models"][name]["all"]
            correct, margin = _number(found["correct"], 3), _number(found["margin"], 3)
            rows.append((label, frames, found["instruments"], correct, margin))
    table = markdown(("weights", "frames", "instruments", "correct", "margin"), rows)
    return f"{about}\n\n{table}\n\nThe two differ in steps (1500 and 1800) and in clutter, too."


def strategies() -> str:
    """Whether the strategies' heatmaps know left from right, run by run, Markdown."""
    rows = []
    for name, found in _load("left_right_strategies.json")["models"].items():
        _, _, model, seed = name.split("/")
        figures = found["all"]
        correct, margin = _number(figures["correct"], 3), _number(figures["margin"], 3)
        rows.append((f"`{model}`, {seed.replace('seed', 'seed ')}", figures["instruments"], correct, margin))
    return markdown(("run", "instruments", "correct", "margin"), rows)


def presets() -> str:
    """The presets in one budget, how `paper` was rescaled, and what the departures of `modern` bring; Markdown."""
    return presets_table.text(_load("presets.json")["runs"])


def history() -> str:
    """The first weights and the shipped ones on the real sequences, Markdown."""
    shares_head = ("DICE", "precision", "recall")
    errors_head = ("visible `center`", "`center`, mean px", "visible claspers", "left / right clasper, mean px")
    head = ("weights", "sequence", *shares_head, *errors_head)
    rows = []
    for file, label in (("csl_lite0_first_endovis2015.json", "first"), ("csl_lite0_endovis2015.json", "shipped")):
        for name, figures in _load(file)["sequences"].items():
            marks = figures["landmarks"]
            means = {k: _number(marks[k]["landmark_error_px"]["mean"]) for k in ("center", "left_clasper", "right_clasper")}
            shares = (_number(figures[key], 3) for key in ("dice", "precision", "recall"))
            seen = {key: marks[key]["visible"] for key in means}
            claspers = [f"{of['left_clasper']} / {of['right_clasper']}" for of in (seen, means)]
            rows.append((label, name, *shares, seen["center"], means["center"], *claspers))
    return markdown(head, rows)


_RECIPE_ROWS = {
    "csl": "ImageNet's encoder, real frames",
    "csl@plain": "the same with the paper's augmentation instead of the strong one",
    "csl@start": "started from the shipped weights",
    "csl@start,mix": "and a third of the frames synthetic: **the recipe**",
    "csl@start,mix,side": "and the task that tells left from right",
    "csl@start,mix,large": "the recipe at an input of 320x416 instead of 256x320",
}


_RECIPE_COLUMNS = (
    "test sequence",
    "trained on",
    "flips",
    "DICE",
    "precision",
    "recall",
    "visible `center`",
    "`center`, mean / median / p95 / largest px",
    "visible landmarks",
    "all landmarks, mean / median / p95 / largest px",
    "beyond 60 px",
    "`center` against TrackedPoint, mean px",
    "the two annotations apart, mean px",
)


def _final_runs() -> list[dict[str, Any]]:
    return [run for run in _load("endovis_recipe.json")["runs"] if run["protocol"] == "endovis_loso"]


def recipe() -> str:
    """How a recipe for a surgery that was never seen was chosen, and what it came to, Markdown."""
    data = _load("endovis_recipe.json")
    inner = {(run["model"], run["fold"]): run for run in data["runs"] if run["protocol"] == "endovis_inner"}
    final = _final_runs()
    steps = sorted({run["steps"] for run in inner.values()})[0]
    ingredients = [
        (text, *(_short(inner.get((model, fold))) for fold in ("Dataset2", "Dataset3"))) for model, text in _RECIPE_ROWS.items()
    ]
    tested = []
    for run in final:
        tested.append(_recipe_row(run["fold"], run["sequences"][run["fold"]], "no"))
        for report in data["evaluated"]:
            if report["weights"]["sha256"] == run["weights"]["sha256"] and report["weights"]["mirror"]:
                tested.append(_recipe_row(run["fold"], report["sequences"][run["fold"]], "yes"))
    parts = [
        f"Chosen on Dataset1, on which no fold below is tested but its own ({steps} steps, one seed; DICE, mean `center` error"
        " in px, and share of all landmarks within 20 px):",
        markdown(("ingredients", "trained on Dataset3", "trained on Dataset2"), ingredients),
        f"Frozen, and {final[0]['steps']} steps for each fold of leave-one-surgery-out; `flips` averages with the mirrored"
        " image when it tracks:",
        markdown(_RECIPE_COLUMNS, tested),
    ]
    return "\n\n".join(parts)


def _short(run: dict[str, Any] | None) -> str:
    if run is None:
        return "not measured"
    (figures,) = run["sequences"].values()
    error = figures["landmarks"]["center"]["landmark_error_px"]["mean"]
    return f"{figures['dice']:.3f}, {error:.1f}, {figures['threshold_score_20px']:.3f}"


def _recipe_row(fold: str, figures: dict[str, Any], flips: str) -> list[str]:
    def errors(part: dict[str, Any]) -> str:
        return " / ".join(_number(part["landmark_error_px"][key]) for key in ("mean", "median", "p95", "max"))

    second = figures["second_annotation"]["center_vs_tracked_point"]
    return [
        fold,
        " and ".join(name for name in ("Dataset1", "Dataset2", "Dataset3") if name != fold),
        flips,
        *(_number(figures[key], 3) for key in ("dice", "precision", "recall")),
        str(figures["landmarks"]["center"]["visible"]),
        errors(figures["landmarks"]["center"]),
        str(figures["visible"]),
        errors(figures),
        _number(1 - figures["threshold_scores_px"]["60"], 3),
        _number(second["landmark_error_px"]["mean"]),
        _number(second["annotators_distance_px"]["mean"]),
    ]


def summary() -> str:
    """The table of the README, Markdown."""
    real = {name: _load(f"{name}_endovis2015.json")["sequences"] for name in shipped_weights()}
    folds = {run["fold"]: run["sequences"][run["fold"]] for run in _final_runs()}
    alone = [group for group in _load("bench.json")["nodes"] if group["name"] == "csl_tracker" and not group["segmentation"]]
    (bench,) = (at for group in alone if group["image_size"] == [576, 720] for at in group["rates"] if at["rate_hz"] == 30)
    rows = [
        (f"`{name}`, trained on synthetic frames only", *_in_short(found, ("Dataset1", "Dataset2", "Dataset3")))
        for name, found in real.items()
    ]
    rows.append(("`config/recipe`, trained on the other two surgeries", *_in_short(folds, ("Dataset2", "Dataset3"))))
    gpu = gpu_tables.NOT_MEASURED if gpu_tables.load(RESULTS / "gpu.json") is None else "[docs/engines.md](docs/engines.md)"
    latency = bench["latency_ms"]
    return (
        f"{markdown(('weights', 'EndoVis 2015', 'visible `center`', '`center` error, mean px', 'DICE'), rows)}\n\n"
        "Dataset3 is not a blind test: it was seen before these weights were trained"
        " ([every meeting](docs/results/README.md#meetings-with-test-sequences)).\n\n"
        "Image published to poses received over DDS, 720x576 at 30 Hz on 2 CPU cores:"
        f" {_number(latency['p50'])} ms (p50), {_number(latency['p99'])} ms (p99), {bench['dropped']} of {bench['frames']}"
        f" images dropped. GPU: {gpu}."
    )


def _in_short(sequences: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    visible = [str(sequences[name]["landmarks"]["center"]["visible"]) for name in names]
    errors = [_number(sequences[name]["landmarks"]["center"]["landmark_error_px"]["mean"]) for name in names]
    dice = [_number(sequences[name]["dice"], 3) for name in names]
    return ", ".join(names), *(" / ".join(values) for values in (visible, errors, dice))


def tables() -> str:
    """The tables of docs/measured.md, Markdown."""
    real, speed = _load("endovis2015_dataset3_node.json"), _load("synthetic_speed.json")
    folds = {run["fold"]: run["sequences"][run["fold"]] for run in _final_runs()}
    recipe_rows = [_accuracy_row(f"real, another surgery: {name}", folds[name]) for name in ("Dataset2", "Dataset3")]
    seconds = [folds[name]["second_annotation"]["center_vs_tracked_point"] for name in ("Dataset2", "Dataset3")]
    against = [second["landmark_error_px"]["mean"] for second in seconds]
    apart = [second["annotators_distance_px"]["mean"] for second in seconds]
    lines = [
        "Fine-tuned on real frames and tested on a surgery that the model never saw: the recipe of `config/recipe`, chosen on",
        "Dataset1 ([method and ablation](results/README.md#a-surgery-that-was-never-seen)):",
        "",
        markdown(_COLUMNS, recipe_rows),
        "",
        "An earlier training on Dataset1 and Dataset2 (`config/train/endovis2015.yaml`), through the ROS 2 node on a bag:",
        "",
        markdown(_COLUMNS, [_accuracy_row("real, another surgery: Dataset3", real)]),
        "",
        "These are training sequences of the challenge; the paper's Table 1 is about its test sets (`endovis_table1`).",
        "Against the second annotation of the same point (TrackedPoint) the recipe's means are"
        f" {_number(against[0])} px on Dataset2 and",
        f"{_number(against[1])} px on Dataset3; the two annotations themselves are {_number(apart[0])} px and"
        f" {_number(apart[1])} px apart.",
        "",
        "Latency, drops, memory and start of the node over DDS: [benchmark.md](benchmark.md#figures).",
        "",
        *gpu_tables.readme(gpu_tables.load(RESULTS / "gpu.json")),
        "",
        "Synthetic training frames of 320x256:"
        f" {_number(speed['frames_per_second']['median'], 0)} a second on {speed['processes']} cores.",
    ]
    return "\n".join(lines)


def sizes() -> str:
    """What an image of an unexpected size costs each engine of the CPU, Markdown."""
    found = _load("sizes.json")
    rows = []
    for one in found["engines"]:
        memory = [sample["memory_mb"] for sample in one["samples"]]
        threads = sorted({sample["threads"] for sample in one["samples"]})
        rows.append(
            (
                f"`{one['engine']}`",
                _number(2 * one["usual_ms"]),
                _number(max(one["first_two_frames_ms"])),
                f"{one['random_sizes']:,}",
                " / ".join(_number(value, 0) for value in (memory[0], memory[len(memory) // 2], memory[-1])),
                " to ".join(map(str, threads)),
            )
        )
    head = (
        "engine",
        "two usual frames, ms",
        "first two of a new size, largest, ms",
        "frames of random sizes",
        "memory at first / half way / at last, MB",
        "threads",
    )
    machine, (height, width) = found["machine"], found["warmed_up"]
    return (
        f"{markdown(head, rows)}\n\n"
        f"Warmed up for {width}x{height}, then {len(found['sizes'])} new sizes, then random sizes for 150 s, with the label"
        f" map; {machine['cores']} cores of {machine['cpu']}; [`results/sizes.json`](results/sizes.json)."
    )


def pairs(folder: str) -> str:
    """Differences of the compared pairs with their intervals, Markdown; separable ones are bold.

    Args:
        folder: Folder of the experiment's tables below ``docs/results``.
    """
    with (RESULTS / folder / "comparisons.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    quantities = {"dice": ("DICE", 3), "landmark_error_px": ("error, px", 1), "threshold_score_20px": ("within 20 px", 3)}
    found = {(row["comparison"], row["quantity"]): row for row in rows}

    def cell(pair: str, quantity: str) -> str:
        row = found.get((pair, quantity))
        if row is None:
            return "not applicable"
        numbers = (f"{float(row[key]):.{quantities[quantity][1]}f}" for key in ("difference", "low", "high"))
        text = "{} ({} to {})".format(*numbers)
        return text if row["verdict"] == "not separable" else f"**{text}**"

    names = [f"`{pair.replace(' vs ', '` - `')}`" for pair in dict.fromkeys(row["comparison"] for row in rows)]
    cells = [[cell(pair, quantity) for quantity in quantities] for pair in dict.fromkeys(row["comparison"] for row in rows)]
    return markdown(
        ("pair", *(title for title, _ in quantities.values())), [(name, *row) for name, row in zip(names, cells, strict=True)]
    )


def robustness() -> str:
    """The table of corrupted frames, Markdown."""
    data = _load("robustness.json")
    found = robustness_summary(data["sequences"])
    return (
        f"`{data['weights'].removesuffix('.safetensors')}` on {', '.join(data['sequences'])} of EndoVis 2015, {data['frames']}"
        f" frames each. {found.caption}\n\n{found.markdown()}"
    )


def main() -> None:
    """Print the tables, or put them into the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into the pages")
    args = parser.parse_args()
    if not args.write:
        print(tables())
        return
    pages = (
        (ROOT / "docs" / "measured.md", tables()),
        (MODELS_DIR / "MODEL_CARD.md", model_card()),
        (RESULTS / "README.md", f"{history()}\n\n## A surgery that was never seen\n\n{recipe()}"),
    )
    for page, content in pages:
        _put(page, content, BEGIN, END)
    _put(ROOT / "README.md", summary(), SUMMARY_BEGIN, SUMMARY_END)
    _put(RESULTS / "README.md", strategies(), STRATEGIES_BEGIN, STRATEGIES_END)
    for folder in PAIRS_OF:
        _put(RESULTS / "README.md", pairs(folder), f"<!-- pairs of {folder} -->", f"<!-- end of {folder} -->")
    _put(ROOT / "docs" / "node.md", sizes(), SIZES_BEGIN, SIZES_END)
    _put(ROOT / "docs" / "evaluation.md", coverage.table(_load("coverage.json")), COVERAGE_BEGIN, COVERAGE_END)
    _put(ROOT / "docs" / "evaluation.md", robustness(), ROBUSTNESS_BEGIN, ROBUSTNESS_END)
    _put(RESULTS / "README.md", landmark_table.table(_load("landmarks.json")), landmark_table.BEGIN, landmark_table.END)
    _put(ROOT / "docs" / "training.md", presets(), PRESETS_BEGIN, PRESETS_END)


def _put(page: Path, content: str, begin: str, end: str) -> None:
    """Put a text between two markers of a page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n\n{content}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
