import base64
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.bags.writer import BagWriter
from csl_tracker.cli.main import main
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message
from csl_tracker.messages.poses import GroundTruth, bag_types, make_header, make_pose_array
from csl_tracker.reporting import report as report_module
from csl_tracker.reporting.page import Page, PageFrame, Player, Section, Video
from csl_tracker.reporting.report_charts import errors_over_time, share_curve, ticks
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
SIZE = (96, 128)
SECOND = 1_000_000_000
STEP = 100_000_000
FRAMES = 30
PAUSE = 3 * SECOND // 2
OFFSETS = [index * STEP + (index % 2) * STEP // 10 + (PAUSE if index > 20 else 0) for index in range(FRAMES)]
"""Stamps of the frames: uneven, with a pause of one and a half seconds, which the video shortens to one."""
SAVED = OFFSETS[21] - OFFSETS[20] - SECOND
STARTS = [(offset - (SAVED if index > 20 else 0)) / SECOND for index, offset in enumerate(OFFSETS)]
MIDDLES = [(a + b) / 2 for a, b in zip(STARTS, [*STARTS[1:], STARTS[-1] + 0.004], strict=True)]
FAR = 17
EVIL = "<script>document.title='owned'</script>\"'&"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a bag with images, truth and poses; frame 17 is far off, and the publisher's names are hostile."""
    from csl_tracker.messages.poses import make_truth_array

    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(5)
    with BagWriter(folder / "recorded.mcap") as bag:
        bag.add_topic(topics.IMAGE, topics.IMAGE_TYPE)
        bag.add_topic(topics.TRUTH_POSES, topics.POSES_TYPE)
        bag.add_topic(topics.POSES, topics.POSES_TYPE)
        for index in range(FRAMES):
            stamp = SECOND + OFFSETS[index]
            header = make_header(bag_types(), stamp, "camera")
            picture = rng.integers(0, 60, (*SIZE, 3)).astype(np.uint8)
            picture[:, 4 * index : 4 * index + 8] = 255
            bag.write(topics.IMAGE, image_message(picture, stamp), stamp)
            mark = np.array([[(40.0 + index, 50.0), (60.0, 50.0)]])
            labels = GroundTruth(("left",), (EVIL, "b"), mark, np.ones((1, 2), bool), SIZE)
            bag.write(topics.TRUTH_POSES, make_truth_array(bag_types(), header, labels), stamp)
            guess = mark[0] + (0.0, 30.0 if index == FAR else 1.0 + 0.1 * index)
            landmarks = tuple(LandmarkEstimate(name, *guess[k], np.eye(2), 0.8, True) for k, name in enumerate((EVIL, "b")))
            tool = InstrumentEstimate(1, EVIL, landmarks, 0.8, math.nan, (0, 0, 0, 0))
            result = TrackingResult((tool,), None, SIZE, 0.01)
            bag.write(topics.POSES, make_pose_array(bag_types(), header, result, EVIL), stamp + 5_000_000)
    assert main(["evaluate-bag", str(folder / "recorded.mcap"), "--out", str(folder / "out")]) == 0
    return folder / "out" / "report.html"


class _Addresses(HTMLParser):
    """Collects what a page would load, and the scripts in it."""

    def __init__(self):
        super().__init__()
        self.found, self.scripts = [], 0

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "poster", "data") and value]
        self.scripts += tag == "script" and dict(attrs).get("type") is None


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing_of_a_bag(page):
    text = page.read_text(encoding="utf-8")
    parser = _Addresses()
    parser.feed(text)
    assert all(address.startswith(("data:", "#")) for address in parser.found)
    assert not re.search(r"url\(|@import", text)
    assert parser.scripts == 1
    assert EVIL not in text
    assert [path.name for path in page.parent.iterdir() if path.suffix != ".json"] == ["report.html"]  # the video is inside
    video = next(address for address in parser.found if address.startswith("data:video/mp4"))
    assert base64.b64decode(video.partition(",")[2])[4:8] == b"ftyp"


def test_a_page_escapes_every_text_it_is_given():
    frame = PageFrame(1, EVIL, EVIL, EVIL, EVIL)
    section = Section(EVIL, EVIL, [EVIL], [[EVIL, EVIL]], caption=EVIL, notes=[EVIL])
    chart = Section("chart", chart=share_curve([(0.0, 0.0), (1.0, 1.0)], EVIL, EVIL, EVIL), caption=EVIL)
    player = Player(Video(EVIL, EVIL, EVIL), [frame])
    text = Page(EVIL, [section, chart], EVIL, [EVIL], player, EVIL, [EVIL]).html()
    shown = EVIL.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;").replace("'", "&#39;")
    assert text.count("owned") == text.count(shown) == 23
    assert text.startswith("<!DOCTYPE html>")


def test_a_page_without_a_player_has_no_script():
    text = Page("t", [Section("a", head=("x",), rows=[("1",)])]).html()
    assert "<script" not in text
    assert "<footer" not in text


def test_a_large_video_lies_beside_the_page(page, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "INLINE_BYTES", 100)
    recorded = page.parent.parent / "recorded.mcap"
    assert main(["evaluate-bag", str(recorded), "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "overlay.mp4", "report.html"]
    assert 'src="overlay.mp4"' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_worst_frames_come_first_in_the_page(page):
    frames = re.findall(r'<button type="button" data-frame="(\d+)"', page.read_text(encoding="utf-8"))
    figures = json.loads((page.parent / "figures.json").read_text(encoding="utf-8"))
    errors = figures["details"]["mean_error_px"]
    assert [int(frame) for frame in frames] == sorted(range(FRAMES), key=lambda index: -errors[index])[: len(frames)]
    assert int(frames[0]) == FAR


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 60, [0, 10, 20, 30, 40, 50, 60])]
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected


def test_a_thinned_line_hides_no_peak():
    errors = [1.0] * 10_000
    errors[7001] = 90.0
    drawing = errors_over_time([0.04 * k for k in range(10_000)], errors, [], [])
    heights = [float(y) for y in re.findall(r",(\d+\.\d)", re.search(r'class="curve" points="([^"]+)"', drawing)[1])]
    assert len(heights) < 4000
    assert sum(y < 50 for y in heights) == 1


# The browser reads commands from descriptor 3 and answers on 4.
_WITH_PIPES = """
import os, sys
for number, target in ((int(sys.argv[1]), 60), (int(sys.argv[2]), 61), (60, 3), (61, 4)):
    os.dup2(number, target)
os.execv(sys.argv[3], sys.argv[3:])
"""


class _Browser:
    """A headless Chromium, spoken to by its DevTools protocol over a pair of pipes."""

    def __init__(self, address):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        into, ours_out = os.pipe()
        ours_in, out_of = os.pipe()
        command = [
            *(sys.executable, "-c", _WITH_PIPES, str(into), str(out_of)),
            *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe", "--window-size=1000,900"),
            *("--autoplay-policy=no-user-gesture-required", f"--user-data-dir={self._profile.name}", "about:blank"),
        ]
        self._process = subprocess.Popen(command, pass_fds=(into, out_of), stderr=subprocess.DEVNULL)
        os.close(into)
        os.close(out_of)
        self._out, self._in = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb")
        self._number, self._session = 0, None
        self._buffer = b""
        self.errors, self.requests = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Network.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.call("Page.navigate", url=address)

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self._process.terminate()
        self._process.wait(30)
        self._out.close()
        self._in.close()
        self._profile.cleanup()

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            method, details = answer.get("method"), answer.get("params", {})
            if (
                method == "Runtime.exceptionThrown"
                or (method == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning", "assert"))
                or (method == "Log.entryAdded" and details["entry"]["level"] == "error")  # what the security policy refused
            ):
                self.errors.append(details)
            if method == "Network.requestWillBeSent" and not details["request"]["url"].startswith("data:"):
                self.requests.append(details["request"]["url"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self):
        while b"\0" not in self._buffer:
            part = self._in.read1(65536)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return message

    def value(self, expression):
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.value(expression):
                return
            time.sleep(0.05)
        raise AssertionError(f"never came true: {expression}")

    def click(self, selector):
        """A click of the mouse where the element is."""
        place = self.value(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def key(self, key, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
def test_a_browser_shows_the_chosen_frame_and_plays_the_video(page):
    with _Browser(Path(page).as_uri()) as browser:
        browser.until("document.readyState === 'complete' && document.querySelector('video').readyState >= 2")
        assert browser.value("document.title") == "Tracking of recorded"
        assert browser.value("document.body.dataset.chosen") == str(FAR)

        other = browser.value("document.querySelectorAll('circle.worst')[3].dataset.frame")
        browser.click(f'circle.worst[data-frame="{other}"]')
        browser.until(f"document.body.dataset.chosen === '{other}'")
        browser.until("!document.querySelector('video').seeking")
        expected = MIDDLES[int(other)]
        assert browser.value("document.querySelector('video').currentTime") == pytest.approx(expected, abs=0.01)
        browser.until("document.getElementById('picture').complete")
        size = browser.value(
            "[document.getElementById('picture').naturalWidth, document.getElementById('picture').naturalHeight]"
        )
        assert size == [SIZE[1], SIZE[0]]
        # The video shows that very frame: its bright column is where the frame's number puts it.
        column = browser.value(
            "(() => { const v = document.querySelector('video'); const c = document.createElement('canvas');"
            " c.width = v.videoWidth; c.height = v.videoHeight; const g = c.getContext('2d'); g.drawImage(v, 0, 0);"
            " const row = g.getImageData(0, 5, c.width, 1).data; let best = 0, at = -1;"
            " for (let x = 0; x + 8 <= c.width; x++) { let s = 0; for (let k = 0; k < 8; k++) s += row[4 * (x + k)];"
            " if (s > best) { best = s; at = x; } } return at; })()"
        )
        assert column == pytest.approx(4 * int(other), abs=1)

        browser.value(f"document.querySelector('circle.worst[data-frame=\"{FAR}\"]').focus()")
        browser.key("Enter", 13)
        browser.until(f"document.body.dataset.chosen === '{FAR}'")

        for start, step, expected in ((12, 1, 13), (12, -1, 11), (20, 1, 21), (0, -1, 0), (FRAMES - 1, 1, FRAMES - 1)):
            browser.value(f"document.querySelector('video').currentTime = {MIDDLES[start]}")
            browser.until("!document.querySelector('video').seeking")
            browser.click(f'button[data-step="{step}"]')
            browser.until(f"document.querySelector('.steps output').textContent === 'frame {expected} of 0 to {FRAMES - 1}'")
            time_s = browser.value("document.querySelector('video').currentTime")
            assert time_s == pytest.approx(MIDDLES[expected], abs=0.01)

        browser.value("document.querySelector('video').currentTime = 0")
        browser.until("!document.querySelector('video').seeking")
        browser.value("document.querySelector('video').play()")
        browser.until("document.querySelector('video').currentTime > 0.5")
        assert browser.value("document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames") > 3
        assert browser.value("document.title") == "Tracking of recorded"
        assert browser.value("document.querySelectorAll('script:not([type])').length") == 1
        assert browser.value("document.body.innerText").count(EVIL)
        assert browser.errors == []
        assert browser.requests == [Path(page).as_uri()]


@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<script>console.error('x')</script>", "errors"),
        ("<script>nothing()</script>", "errors"),
        ("<img src='file:///nowhere.png'>", "requests"),
        ("<meta http-equiv='Content-Security-Policy' content=\"img-src 'none'\"><img src='http://a.invalid/b'>", "errors"),
    ],
)
def test_the_browser_notices_what_a_page_must_not_do(tmp_path, content, expected):
    (tmp_path / "a.html").write_text(f"<!DOCTYPE html><body>{content}", encoding="utf-8")
    with _Browser((tmp_path / "a.html").as_uri()) as browser:
        browser.until("document.readyState === 'complete'")
        browser.value("new Promise(done => setTimeout(done, 100))")
        assert browser.requests[0].endswith("a.html")
        assert browser.errors if expected == "errors" else len(browser.requests) > 1
