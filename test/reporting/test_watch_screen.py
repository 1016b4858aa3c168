from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest

from csl_tracker.messages.diagnostics import DROPPED, ERROR, INPUT_RATE, RECEIVED, UNUSABLE, Diagnosis
from csl_tracker.messages.watch import STALE_S, Watch
from csl_tracker.reporting.watch_screen import line, screen
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

COVARIANCE = np.eye(2)


def landmark(name: str = "head", x: float = 10.0, y: float = 20.0, visible: bool = True) -> LandmarkEstimate:
    return LandmarkEstimate(name, x, y, COVARIANCE, 0.5, visible)


def result(*marks: LandmarkEstimate, slot: str = "left", processing_s: float = 0.02) -> TrackingResult:
    instruments = (InstrumentEstimate(3, slot, marks, 0.875, math.pi / 2, (0, 0, 1, 1)),) if marks else ()
    return TrackingResult(instruments, None, (576, 720), processing_s)


def watched(times: list[float], latency_s: float = 0.1, **given: float) -> Watch:
    watch = Watch("/tracker_node")
    for now in times:
        watch.receive(result(landmark(), **given), "tiny@1234", now - latency_s, now)
    return watch


def text(watch: Watch, now: float, **given: object) -> str:
    return "\n".join(screen(watch.view(now), **given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stamp_s", "known"),
    [(1e9 - 0.25, True), (0.0, False), (1e9 + 3.0, False), (1e9 - 1e6, False)],
    ids=["now", "no stamp", "the future", "an old bag"],
)
def test_latency_is_given_where_the_clocks_allow_it(stamp_s: float, known: bool) -> None:
    watch = Watch("/tracker_node")
    watch.receive(result(landmark()), "tiny@1234", stamp_s, 1e9)
    view = watch.view(1e9)
    assert (view.latency is not None) == known
    if known:
        assert view.latency is not None
        assert view.latency.p50 == pytest.approx(250.0)
        assert "p50 250.0, p95 250.0, max 250.0 ms, from the image's stamp to here" in text(watch, 1e9)
    else:
        assert "not applicable: the images' stamps are not of this machine's clock" in text(watch, 1e9)
        assert "latency p50/p95 not applicable" in line(view)


def test_a_view_shows_what_was_seen_last() -> None:
    shown = text(watched([1.0, 1.1, 1.2]), 1.2)
    for part in ("/tracker_node", "tiny@1234, 720x576 px", "3 in all", "left #3  confidence 0.88, shaft at 90 deg"):
        assert part in shown
    assert re.search(r"head +\( +10\.0, +20\.0\) px  #####\.\.\.\.\. 0\.50$", shown, re.MULTILINE)
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (landmark(visible=False), "20.0) px  #####..... 0.50  not sure enough"),
        (landmark(x=math.nan, y=math.nan, visible=False), "no guess  #####..... 0.50  not sure enough"),
    ],
)
def test_a_landmark_out_of_sight_is_called_so(mark: LandmarkEstimate, words: str) -> None:
    watch = Watch("/tracker_node")
    watch.receive(result(mark), "tiny@1234", 1.0, 1.0)
    assert words in text(watch, 1.0)
    assert "head" not in line(watch.view(1.0))


def test_what_is_old_is_not_shown_as_if_it_were_there() -> None:
    watch = watched([1.0, 1.1])
    assert watch.view(1.1).instruments
    stopped = watch.view(1.1 + 2 * STALE_S, ["The camera has stopped."])
    assert not stopped.instruments
    assert "! The camera has stopped." in "\n".join(screen(stopped))
    assert line(stopped) == "/tracker_node: The camera has stopped."


def test_nothing_seen_is_said() -> None:
    watch = Watch("/tracker_node")
    assert "none yet" in text(watch, 1.0)
    watch.receive(result(), "tiny@1234", 1.0, 1.0)
    assert "no instrument in sight" in text(watch, 1.0)
    assert line(watch.view(1.0)).endswith("no instrument in sight")


def test_the_nodes_own_words_are_shown() -> None:
    watch = watched([1.0])
    watch.state = "active"
    values = {"input rate": "0.0 Hz", "received": "90", "dropped": "7", "unusable: step": "2", "device": "cpu"}
    watch.diagnose(Diagnosis(ERROR, "no images for 3 s", values, 1.0))
    shown = text(watch, 1.0, color=True)
    assert "images  0.0 Hz, 90 in all, 7 dropped for a newer one, 2 unusable: step" in shown
    assert "/tracker_node (active)" in shown
    assert "\x1b[31mERROR\x1b[0m no images for 3 s" in shown
    assert shown.endswith("no images for 3 s\n             device cpu")
    assert "images  not known" in text(watch, 60.0)


def test_the_figures_are_called_as_the_tracker_calls_them() -> None:
    diagnostics = pytest.importorskip("csl_tracker.node.diagnostics")
    sums = diagnostics.FrameSums(total=Counter({"unusable: step": 2}))
    names = diagnostics.figures(sums)
    assert {INPUT_RATE, RECEIVED, DROPPED, f"{UNUSABLE}: step"} <= set(names)


@pytest.mark.parametrize(
    ("silence_s", "words", "heard"),
    [(0.5, "says  ERROR no images", "no images"), (7.0, "said 7 s ago  STALE no images", "")],
)
def test_what_the_node_said_long_ago_is_called_so(silence_s: float, words: str, heard: str) -> None:
    watch = watched([1.0])
    assert watch.heard(1.0) == ""
    watch.diagnose(Diagnosis(ERROR, "no images", {}, 1.0))
    assert words in text(watch, 1.0 + silence_s)
    assert watch.heard(1.0 + silence_s) == heard


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    watch = watched([1.0])
    watch.diagnose(Diagnosis(ERROR, "words " * 30, {f"figure {index}": "1.0" for index in range(30)}, 1.0))
    lines = screen(watch.view(1.0, ["A long sentence " * 12]), width)
    assert max(map(len, lines)) <= max(width, 33)  # narrower than that nothing can be read


@pytest.mark.parametrize("where", ["model", "slot", "diagnosis", "problem"])
def test_a_name_from_the_network_cannot_steer_the_terminal(where: str) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\n"
    watch = Watch("/tracker_node")
    slot = evil if where == "slot" else "left"
    watch.receive(result(landmark(evil if where == "slot" else "head"), slot=slot), evil if where == "model" else "m", 1.0, 1.0)
    words = evil if where == "diagnosis" else "fine"
    watch.diagnose(Diagnosis(0, words, {words: words}, 1.0))
    view = watch.view(1.0, [evil] if where == "problem" else [])
    shown = [*screen(view), line(view)]
    assert all(letter.isprintable() for entry in shown for letter in entry)
    assert any("owned" in entry for entry in shown)
