import importlib.util
import os
import signal
import subprocess
import sys
import time

import pytest

from csl_tracker.cli.main import main
from csl_tracker.datasets.rendered.bank import open_bank

TINY = ["--size", "65", "--samples", "1", "--workers", "1"]
needs_mitsuba = pytest.mark.skipif(
    importlib.util.find_spec("mitsuba") is None, reason="mitsuba is not installed: pip install -r requirements/render.txt"
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sprites", "-1"], "--sprites is -1; give 0 or more."),
        (["--seed", "-1"], "--seed is -1; give 0 or more."),
        (["--samples", "0"], "--samples is 0; give 1 or more."),
        (["--size", "60001"], "--size is 60001; give a multiple of 5 up to 4095."),
        (["--size", "66"], "--size is 66; give a multiple of 5"),
        pytest.param(
            ["--model", "nowhere"], "nowhere/urdf/common/instruments/instruments.yaml; get the model", marks=needs_mitsuba
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["render", "--out", "bank", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "bank").exists()


def test_without_mitsuba_the_remedy_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["render", "--out", str(tmp_path / "bank")]) == 2
    assert "Rendering needs Mitsuba; install it with pip install " in capsys.readouterr().err


@needs_mitsuba
def test_a_bank_is_made_and_a_second_call_renders_nothing(tmp_path, capsys):
    command = ["render", "--out", str(tmp_path), "--sprites", "2", "--tissue", "1", "--scenes", "1", *TINY]
    assert main(command) == 0
    bank = open_bank(tmp_path)
    assert (len(bank.sprites), len(bank.tissue), len(bank.scenes)) == (2, 1, 1)
    assert bank.sprite(1).view.size == (65, 65)
    assert bank.scene(0).image.shape == (52, 65, 3)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert main(command) == 0
    assert times == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert main([*command, "--seed", "2"]) == 2
    assert "was begun with seed 1, not 2" in capsys.readouterr().err


@needs_mitsuba
def test_ctrl_c_leaves_complete_shards_only_and_the_next_call_goes_on(tmp_path):
    command = [sys.executable, "-m", "csl_tracker.cli.main", "render", "--out", str(tmp_path), "--sprites", "30"]
    command += ["--tissue", "0", "--scenes", "0", *TINY]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 120
    while not (tmp_path / "bank.json").is_file():
        assert time.monotonic() < end
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert all(path.with_suffix(".zip").is_file() for path in tmp_path.glob("sprites-*.json"))
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=300).returncode == 0
    assert len(open_bank(tmp_path).sprites) == 30
