"""Poses of a video as CSV (for spreadsheets) and as JSON (the full tracker output)."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from csl_tracker.errors import DatasetError
from csl_tracker.instruments import InstrumentSet
from csl_tracker.output import AtomicOutput
from csl_tracker.results import InstrumentEstimate, TrackingResult
from csl_tracker.text import csv_cell

_CSV_FIELDS = ("frame", "stamp_s", "track_id", "slot", "confidence", "shaft_angle_rad")
_LANDMARK_FIELDS = ("x", "y", "confidence", "visible")


class PoseFiles(AtomicOutput):
    """Writes a CSV and a JSON file frame by frame, atomically.

    The CSV has one row per instrument and frame, and four columns per landmark; ``x`` and ``y`` are empty if the landmark is
    not visible. The JSON has one entry per frame and line, including landmarks below the working threshold (``visible`` is
    false); unknown numbers are null. Units: source-image px, seconds, rad.
    """

    def __init__(self, csv_path: Path, json_path: Path, instruments: InstrumentSet, header: Mapping[str, Any]) -> None:
        """Open the files.

        Args:
            csv_path: The CSV file.
            json_path: The JSON file.
            instruments: The landmarks, in the order of the results.
            header: Plain values for the start of the JSON.

        Raises:
            DatasetError: A folder is not writable.
        """
        self._targets = (csv_path, json_path)
        self._temporaries = tuple(path.with_name(f".{path.name}.part{os.getpid()}") for path in self._targets)
        self._streams: list[TextIO] = []
        try:
            for path in self._temporaries:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._streams.append(path.open("w", encoding="utf-8", newline="", buffering=1))
        except OSError as error:
            self.abort()
            raise DatasetError(f"The file {path} cannot be written ({error.strerror}); choose a folder that can be.") from error
        self._csv = csv.writer(self._streams[0], lineterminator="\n")
        fields = (csv_cell(f"{name}_{field}") for name in instruments.landmarks for field in _LANDMARK_FIELDS)
        self._csv.writerow([*_CSV_FIELDS, *fields])
        self._json = self._streams[1]
        self._json.write(json.dumps(dict(header), indent=1, allow_nan=False).removesuffix("\n}") + ',\n "frames": [')
        self._count = 0

    def write(self, frame: int, stamp_s: float, result: TrackingResult) -> None:
        """Add the poses of a frame.

        Args:
            frame: Frame number, from 0.
            stamp_s: Frame time, s.
            result: Tracking result of the frame.

        Raises:
            DatasetError: Writing failed; the temporary files are deleted.
        """
        entry = {
            "frame": frame,
            "stamp_s": round(stamp_s, 6),
            "processing_time_s": round(result.processing_time_s, 6),
            "instruments": [_as_dict(instrument) for instrument in result.instruments],
        }
        with self._leaving_nothing():
            for instrument in result.instruments:
                self._csv.writerow(_row(frame, stamp_s, instrument))
            self._json.write((",\n  " if self._count else "\n  ") + json.dumps(entry, allow_nan=False))
        self._count += 1

    def close(self) -> None:
        """Finish both files and rename them to their final names.

        Raises:
            DatasetError: Writing failed; the temporary files are deleted.
        """
        with self._leaving_nothing():
            self._json.write("\n ]\n}\n")
            for stream in self._streams:
                stream.close()
            for temporary, target in zip(self._temporaries, self._targets, strict=True):
                os.replace(temporary, target)

    def abort(self) -> None:
        """Delete the temporary files. May be called twice."""
        for stream in self._streams:
            with contextlib.suppress(OSError):  # closing flushes the buffer
                stream.close()
        for temporary in self._temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink()

    @contextlib.contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        """Delete the files if the block fails; converts OSError to DatasetError."""
        try:
            yield
        except BaseException as error:
            self.abort()
            if isinstance(error, OSError):
                raise DatasetError(
                    f"Writing {' and '.join(map(str, self._targets))} failed ({error.strerror}); make room on the disk, or"
                    " choose another folder."
                ) from error
            raise


def _number(value: float, digits: int = 4) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def _row(frame: int, stamp_s: float, instrument: InstrumentEstimate) -> list[Any]:
    row: list[Any] = [
        frame,
        round(stamp_s, 6),
        instrument.track_id,
        csv_cell(instrument.slot),
        _number(instrument.confidence),
        _number(instrument.shaft_angle),
    ]
    for mark in instrument.landmarks:
        place = (_number(mark.x), _number(mark.y)) if mark.visible else (None, None)
        row += [*place, _number(mark.confidence), int(mark.visible)]
    return row


def _as_dict(instrument: InstrumentEstimate) -> dict[str, Any]:
    return {
        "track_id": instrument.track_id,
        "slot": instrument.slot,
        "confidence": _number(instrument.confidence),
        "shaft_angle_rad": _number(instrument.shaft_angle),
        "roi": [int(value) for value in instrument.roi],
        "age_s": _number(instrument.age_s, 6),
        "predicted": bool(instrument.predicted),
        "landmarks": [
            {
                "name": mark.name,
                "x": _number(mark.x),
                "y": _number(mark.y),
                "covariance": [[_number(float(value)) for value in line] for line in mark.covariance],
                "confidence": _number(mark.confidence),
                "visible": bool(mark.visible),
            }
            for mark in instrument.landmarks
        ],
    }
