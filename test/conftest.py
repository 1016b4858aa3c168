"""What many tests share: weights of a small random network, and a disk that is full."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

# Before torch is imported: side by side, each process of the tests takes its share of the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    _share = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    os.environ.setdefault("OMP_NUM_THREADS", str(_share))

import pytest
import torch

from csl_tracker.bags.reader import BagReader
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.messages import topics
from csl_tracker.messages.images import label_map
from csl_tracker.messages.poses import read_pose_array, stamp_ns
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.results import TrackingResult
from csl_tracker.weights import ModelDescription, Preprocessing, save_weights


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file grows beyond ``room`` bytes: writes fail with an ``OSError``, as on a full disk, but for its number."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(name="full_disk")
def full_disk_fixture() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """The function :func:`full_disk`."""
    return full_disk


# A shell that starts the tests in the background lets them ignore SIGINT, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Collect test files as pytest itself does, whatever plug-ins a sourced ROS 2 brings along.

    launch_testing's imports each file to look for a launch description, and a file that skips itself then ends the whole
    collection.
    """
    return pytest.Module.from_parent(parent, path=module_path)


CORE = ("datasets", "evaluation", "messages", "networks", "reporting", "stereo")
"""Folders whose quick tests `make check` runs, beside those of the folder of tests itself."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whether ``-m core`` need not import a folder, since it has no such tests; others are left to pytest."""
    is_folder_of_tests = collection_path.parent == config.rootpath / "test" and collection_path.is_dir()
    return True if config.option.markexpr == "core" and is_folder_of_tests and collection_path.name not in CORE else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the core's tests; side by side, modules with slow tests begin first, so that none of them is alone at the end."""
    for item in items:
        parts = item.path.relative_to(config.rootpath).parts
        is_core = parts[0] == "test" and (len(parts) == 2 or parts[1] in CORE)
        if is_core and not any(item.get_closest_marker(name) for name in ("slow", "ros", "upstream")):
            item.add_marker("core")
    if not config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        return
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same random tensors in every run."""
    torch.manual_seed(0)


@dataclass(frozen=True)
class Publication:
    """An image that a replay published, and the answer that it recorded; times in ns."""

    source_ns: int
    published_ns: int
    received_ns: int | None
    result: TrackingResult | None


@pytest.fixture(scope="session")
def read_publications() -> Callable[[Path], list[Publication]]:
    """A function that reads all publications, answered or not, from the bag of a replay."""

    def read(path: Path) -> list[Publication]:
        found: dict[int, Publication] = {}
        with BagReader(path) as bag:
            names = [name for name in (topics.SOURCE_TIME, topics.POSES, topics.SEGMENTATION) if name in bag.types]
            for message in sorted(bag.messages(names), key=lambda message: names.index(message.topic)):
                data, stamp = bag.deserialize(message), message.stamp_ns
                if message.topic == topics.SOURCE_TIME:
                    found[stamp] = Publication(stamp_ns(data.time_ref), stamp, None, None)
                elif message.topic == topics.POSES:
                    found[stamp] = replace(found[stamp], received_ns=message.time_ns, result=read_pose_array(data))
                elif (result := found[stamp].result) is not None:
                    found[stamp] = replace(found[stamp], result=replace(result, label_map=label_map(data)))
        return list(found.values())

    return read


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes random weights and returns their path; keywords change the description."""

    def make(**changes: object) -> Path:
        torch.manual_seed(0)
        config = changes.get("network", NetworkConfig())
        network = build_network(config)  # type: ignore[arg-type]
        *_, last = (module for module in network.heatmap_head.modules() if isinstance(module, torch.nn.Conv2d))  # type: ignore[union-attr]
        torch.nn.init.normal_(last.weight, std=0.2)
        norm = network.normalization
        settings: dict[str, object] = {
            "name": "random",
            "network": config,
            "instruments": ENDOVIS,
            "heatmap": HeatmapSpec(3.5),
            "preprocessing": Preprocessing(norm.mean, norm.std, (128, 160)),
            "confidence_threshold": 0.3,
            "provenance": {"initialisation": "random"},
        }
        path = tmp_path_factory.mktemp("weights") / "random.safetensors"
        save_weights(path, network, ModelDescription(**{**settings, **changes}))  # type: ignore[arg-type]
        return path

    return make


QUICK = NetworkConfig("unet", encoder="none", decoder="none", width=4)
"""A network with both heads that is built, run and converted in a fraction of the time of CSL."""


@pytest.fixture(scope="session")
def quick_weights(make_weights: Callable[..., Path]) -> Path:
    """As :func:`random_weights`, for tests in which any network will do."""
    return make_weights(network=QUICK)


@pytest.fixture(scope="session")
def random_weights(make_weights: Callable[..., Path]) -> Path:
    """Weights of a small random network with the EndoVis landmarks, input 128x160."""
    return make_weights()
