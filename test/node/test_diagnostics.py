import os

import pytest

from csl_tracker.messages.diagnostics import ERROR, OK, WARN
from csl_tracker.node.diagnostics import WINDOW_S, FrameStatistics, Limits, Situation, WeightsFile, figures, judge


def statistics(end=100.0, rate=30.0, fate=lambda i: "tracked", processing=0.02, latency=0.03):
    """Of a camera that ends at a moment."""
    found = FrameStatistics(0.0)
    count = int(10 * rate)
    for index in range(count):
        now = end - (count - 1 - index) / rate
        found.receive(now)
        kind = fate(index)
        if kind == "tracked":
            found.track(now, processing, latency)
        elif kind == "dropped":
            found.drop(now)
        elif kind == "skipped":
            found.skip(now)
        else:
            found.fail(now, kind)
    return found


NOTE = "The device cuda:0 was lost."
CASES = {
    "good": (statistics(), {}, OK, "Tracking at 30"),
    "disabled": (statistics(fate=lambda i: "skipped"), {"enabled": False}, OK, "Disabled by ~/enable"),
    "none yet": (FrameStatistics(0.0), {}, WARN, "No image received yet on /image"),
    "stopped": (statistics(end=95.0), {}, ERROR, "The camera has stopped: no image on /image for 5.0 s"),
    "patient": (statistics(end=95.0), {"stale_after_s": 6.0}, OK, "Tracking"),
    "stuck": (statistics(), {"busy_s": 2.5}, ERROR, "stuck: the current frame has taken 2.5 s so far"),
    "some unusable": (statistics(fate=lambda i: "step" if i == 299 else "tracked"), {}, WARN, "1 step"),
    "all unusable": (statistics(fate=lambda i: "size" if i % 2 else "step"), {}, ERROR, "Unusable images in the last 5 s"),
    "few dropped": (statistics(fate=lambda i: "tracked" if i % 20 else "dropped"), {}, OK, "Tracking"),
    "many dropped": (statistics(fate=lambda i: "tracked" if i % 2 else "dropped"), {}, WARN, "50 % of the images are dropped"),
    "slower than the lease": (statistics(processing=0.1), {"lease_s": 0.083}, WARN, "100 ms, longer than the lease of 83 ms"),
    "slow without a lease": (statistics(processing=0.1), {}, OK, "Tracking"),
    "note": (statistics(), {"notes": [NOTE]}, WARN, NOTE),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict(case):
    frames, given, level, words = CASES[case]
    found = judge(frames.sums(100.0), Situation("/image", **given))
    assert found[0] == level
    assert words in found[1]


def test_errors_come_before_warnings_and_nothing_is_left_out():
    level, text = judge(statistics(end=95.0).sums(100.0), Situation("/image", notes=[NOTE], busy_s=9.0))
    assert level == ERROR
    assert text.index("stuck") < text.index("stopped") < text.index(NOTE)


def test_limits_can_be_others():
    frames = statistics(fate=lambda i: "tracked" if i % 2 else "dropped")
    assert judge(frames.sums(100.0), Situation("/image"), Limits(dropped_share=0.6))[0] == OK


def test_the_figures_are_those_of_the_window():
    found = statistics(fate=lambda i: "tracked" if i % 3 else "dropped").sums(100.0)
    assert found.input_hz == pytest.approx(30, rel=0.05)
    assert found.output_hz == pytest.approx(20, rel=0.05)
    assert (found.total["received"], found.total["tracked"], found.total["dropped"]) == (300, 200, 100)
    later = statistics().sums(100 + 2 * WINDOW_S)
    assert (later.input_hz, later.received, later.processing) == (0, 0, None)
    assert later.total["received"] == 300
    assert later.silence_s == pytest.approx(2 * WINDOW_S)


@pytest.mark.parametrize(
    ("latency", "words"),
    [(0.03, "p50 30.0, p95 30.0, max 30.0 ms"), (None, "not applicable"), (-0.5, "not applicable"), (1e9, "not applicable")],
)
def test_latency_is_given_where_the_clocks_allow_it(latency, words):
    shown = figures(statistics(latency=latency).sums(100.0))
    assert shown["stamp to publication"] == words
    assert shown["processing"] == "p50 20.0, p95 20.0, max 20.0 ms"


def test_unusable_images_are_counted_by_reason_for_good():
    found = FrameStatistics(0.0)
    assert [found.fail(float(i), "step") for i in range(3)] == [1, 2, 3]
    assert found.fail(50.0, "size") == 1
    shown = figures(found.sums(60.0))
    assert (shown["unusable: size"], shown["unusable: step"]) == ("1", "3")


@pytest.mark.parametrize("change", ["none", "replaced", "rewritten", "gone"])
def test_a_weights_file_that_changed_is_noticed(tmp_path, change):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"1")
    loaded = WeightsFile.of(path)
    if change == "replaced":
        (tmp_path / "new").write_bytes(b"1")
        os.utime(tmp_path / "new", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        os.replace(tmp_path / "new", path)
    elif change == "rewritten":
        path.write_bytes(b"22")
    elif change == "gone":
        path.unlink()
    said = loaded.change()
    assert (said == "") is (change == "none")
    assert change == "none" or ("was removed" if change == "gone" else "was replaced") in said
