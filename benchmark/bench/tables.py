"""The figures of the benchmark as Markdown; nothing here is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csl_tracker.reporting.table import markdown

NOT_MEASURED = "not measured"

NODES = (
    "node",
    "image",
    "`~/segmentation`",
    "rate",
    "stamp to pose, ms: p50",
    "p90",
    "p95",
    "p99",
    "p99.9",
    "max",
    "std",
    "dropped",
    "network in the node, ms",
    "overhead, ms (p50 / p95)",
    "CPU",
    "memory, MB (PSS / peak RSS)",
)
PEAKS = ("node", "image", "`~/segmentation`", "peak rate", "first pose", "first pose without an export", "GPU load")
NETWORKS = (
    "network",
    "input",
    "GFLOP",
    "parameters",
    "forward pass, ms (p50 / p95)",
    "against ours",
    "frame, ms (p50 / p95)",
    "against ours",
    "DICE",
    "error, px (mean / median)",
)


def nodes(data: Mapping[str, Any]) -> str:
    """Latency and drops: a row for each node, image, subscriber and rate; percentiles over the images of all runs."""
    rows = []
    for group in data["nodes"]:
        for at in group["rates"]:
            times, inside = at["latency_ms"], at["inside"]
            rows.append(
                [
                    *_which(group),
                    f"{at['rate_hz']:g} Hz",
                    *(
                        [f"{times[key]:.1f}" for key in ("p50", "p90", "p95", "p99", "p99.9", "max", "std")]
                        if times
                        else 7 * ["-"]
                    ),
                    f"{at['dropped']} of {at['frames']}",
                    f"{inside['network_ms']['p50']:.1f}" if inside else "-",
                    f"{inside['overhead_ms']['p50']:.1f} / {inside['overhead_ms']['p95']:.1f}" if inside else "-",
                    f"{100 * at['cpu_share_of_a_core']:.0f} % of a core",
                    f"{at['memory_mb']['pss']:.0f} / {at['memory_mb']['peak_rss']:.0f}",
                ]
            )
    return markdown(NODES, rows)


def peaks(data: Mapping[str, Any]) -> str:
    """Peak rates and starts: a row for each node, image and subscriber."""
    rows = []
    for group in data["nodes"]:
        peak, load = group["peak"], group["gpu_load"]
        rows.append(
            [
                *_which(group),
                NOT_MEASURED if peak is None else f"{'over ' if peak['above'] else ''}{peak['peak_hz']:.0f} Hz",
                f"{group['first_pose_s']:.1f} s",
                NOT_MEASURED if group["cold_first_pose_s"] is None else f"{group['cold_first_pose_s']:.1f} s",
                "no GPU" if load is None else f"{100 * load:.0f} %",
            ]
        )
    return markdown(PEAKS, rows)


def networks(data: Mapping[str, Any], accuracy: Mapping[str, Any] | None) -> str:
    """The networks beside each other.

    Args:
        data: Figures of the benchmark.
        accuracy: What ``benchmark.bench.train`` found, if it ran.
    """
    found = {row["name"]: row for row in accuracy["networks"]} if accuracy else {}
    rows = []
    for row in data["networks"]:
        known = found.get(row["name"])
        rows.append(
            [
                row["name"],
                "x".join(map(str, row["input_size"])),
                f"{row['gflop']:.1f}",
                f"{row['parameters'] / 1e6:.1f} M",
                _two(row["network_ms"]),
                _times(row["network_ratio"]),
                _two(row["frame_ms"]),
                _times(row["frame_ratio"]),
                f"{known['dice']:.3f}" if known else NOT_MEASURED,
                f"{known['error_px']['mean']:.1f} / {known['error_px']['median']:.1f}" if known else NOT_MEASURED,
            ]
        )
    return markdown(NETWORKS, rows)


def page(data: Mapping[str, Any], accuracy: Mapping[str, Any] | None) -> str:
    """All tables, with what they are of."""
    machine = data["machine"]
    parts = [
        f"{machine['cores']} cores of {machine['cpu']}, {machine['gpu'] or 'no GPU'}; engine {data['engine']}; load average"
        f" {data['load_before']:.2f} at the beginning. Images: {data['images']}.",
        nodes(data),
        peaks(data),
        networks(data, accuracy),
    ]
    if accuracy:
        slowest = max(accuracy["networks"], key=lambda row: row["seconds"])
        parts.append(f"DICE and error: {accuracy['text']}")
        parts += [
            f"The same for {row['steps']} steps of {row['name']}, {row['seconds'] / 60:.0f} minutes where the"
            f" {slowest['steps']} of {slowest['name']} took {slowest['seconds'] / 60:.0f} on a core that other work shared:"
            f" DICE {row['dice']:.3f}, error {row['error_px']['mean']:.1f} / {row['error_px']['median']:.1f} px."
            for row in accuracy.get("longer", [])
        ]
    return "\n\n".join(parts)


def _which(group: Mapping[str, Any]) -> list[str]:
    return [group["name"], "x".join(map(str, group["image_size"])), "subscribed" if group["segmentation"] else "no"]


def _two(values: Mapping[str, float]) -> str:
    return f"{values['p50']:.1f} / {values['p95']:.1f}"


def _times(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.1f} times ({ratio['p5']:.1f} to {ratio['p95']:.1f})"
