"""Calibration files of cameras: YAML as ``camera_calibration`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ConfigError
from csl_tracker.pixels import Size
from csl_tracker.yaml_files import read_yaml


def read_calibration(path: Path) -> CameraModel:
    """Read a file as ``camera_calibration`` writes and ``camera_info_manager`` reads it.

    A missing rectification is the identity, a missing projection that of the raw image, as for a single camera.

    Raises:
        ConfigError: The file is missing, is no YAML, lacks a value, or describes no camera.
    """
    content = read_yaml(path, "The calibration")
    try:
        k = _matrix(content, "camera_matrix")
        return CameraModel(
            width=int(content["image_width"]),
            height=int(content["image_height"]),
            k=k,
            d=_matrix(content, "distortion_coefficients") if "distortion_coefficients" in content else np.zeros(0),
            model=str(content.get("distortion_model") or content.get("camera_model") or ""),
            r=_matrix(content, "rectification_matrix") if "rectification_matrix" in content else np.eye(3),
            p=(
                _matrix(content, "projection_matrix")
                if "projection_matrix" in content
                else np.hstack((k.reshape(3, 3), np.zeros((3, 1))))
            ),
        )
    except ConfigError as error:
        raise ConfigError(f"The calibration {path} cannot be used. {error}") from error
    except KeyError as error:
        raise ConfigError(
            f"The calibration {path} has no {error.args[0]}; give a YAML file as camera_calibration writes it."
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"The calibration {path} is no YAML file of camera_calibration ({' '.join(str(error).split())}); give one."
        ) from error


def check_size(camera: CameraModel, size: Size, name: str = "camera_info") -> None:
    """Make sure that a calibration fits the images.

    Args:
        camera: The calibration.
        size: (height, width) of the images, px.
        name: Where the calibration comes from, for the error.

    Raises:
        ConfigError: It was made at another size.
    """
    if (camera.height, camera.width) != size:
        raise ConfigError(
            f"The calibration {name} is that of images of {camera.width}x{camera.height} px, and the frames have"
            f" {size[1]}x{size[0]} px; calibrate at the size of the frames, or leave the calibration out."
        )


def _matrix(content: Any, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(content[name]["data"], np.float64).ravel()
