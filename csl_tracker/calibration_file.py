"""Camera calibration files: YAML as written by ``camera_calibration``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ConfigError
from csl_tracker.pixels import Size
from csl_tracker.yaml_files import read_yaml


def read_calibration(path: Path) -> CameraModel:
    """Read a calibration file of ``camera_calibration`` / ``camera_info_manager``.

    Defaults are those of a monocular camera: identity rectification, and the projection of the raw image.

    Raises:
        ConfigError: The file is missing, not YAML, incomplete, or not a valid calibration.
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
            f"The calibration {path} is not a YAML file of camera_calibration ({' '.join(str(error).split())}); give one."
        ) from error


def check_size(camera: CameraModel, size: Size, name: str = "camera_info") -> None:
    """Check that a calibration was made at the size of the images.

    Args:
        camera: The calibration.
        size: (height, width) of the images, px.
        name: Source of the calibration, for the error message.

    Raises:
        ConfigError: The sizes differ.
    """
    if (camera.height, camera.width) != size:
        raise ConfigError(
            f"The calibration {name} is for images of {camera.width}x{camera.height} px, but the frames have"
            f" {size[1]}x{size[0]} px; calibrate at the size of the frames, or leave the calibration out."
        )


def _matrix(content: Any, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(content[name]["data"], np.float64).ravel()
