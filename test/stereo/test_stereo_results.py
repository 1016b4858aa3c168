"""The measured rows hold what was promised, and the page shows them."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = json.loads((ROOT / "docs" / "results" / "stereo.json").read_text(encoding="utf-8"))
EXACT, NOISY, NETWORK = REPORT["rows"].values()


def test_exact_landmarks_have_exact_depths():
    assert EXACT["found"] == EXACT["instruments"] >= 1000
    assert EXACT["depth_error"]["median"] < 0.001


def test_noise_leads_to_the_errors_that_geometry_predicts():
    assert NOISY["depth_rms_over_geometry"] == pytest.approx(1.0, abs=0.1)
    assert NOISY["depth_rms_over_stated"] == pytest.approx(1.0, abs=0.1)
    assert NOISY["nees_mean"] == pytest.approx(NOISY["nees_expected"], rel=0.1)


def test_the_page_shows_the_committed_figures():
    module = runpy.run_path(str(ROOT / "benchmark" / "stereo.py"))
    assert module["table"](REPORT) in (ROOT / "docs" / "dvrk.md").read_text(encoding="utf-8")
