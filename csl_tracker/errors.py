"""Errors that a user can cause and fix.

Each message is one sentence that names the file, the offending value and the remedy. The command line prints it without a
traceback and exits with 2; any other exception is a bug in this package. ``str`` escapes control characters, since names and
values in a message come from files.
"""

from __future__ import annotations

from csl_tracker.text import printable

EXIT_USER_ERROR = 2
"""Exit status after a user error."""
EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C."""


class CslTrackerError(Exception):
    """Base of all errors that a user can cause and fix."""

    def __str__(self) -> str:
        return printable(super().__str__(), lines=False)


class ConfigError(CslTrackerError):
    """A configuration file or an override has an unknown or impossible value."""


class DatasetError(CslTrackerError):
    """A dataset folder, a video, a mask or an annotation file is missing, broken or inconsistent."""


class WeightsError(CslTrackerError):
    """A weights file is missing, truncated, foreign, or made for other landmarks or classes."""


class ImageError(CslTrackerError):
    """An image is empty, has an unknown encoding, or has impossible dimensions."""


class BagError(CslTrackerError):
    """A bag is missing, broken, or lacks the requested topic."""


class EngineError(CslTrackerError):
    """The requested inference engine or device is not available."""


def first_line(error: BaseException) -> str:
    """First line of an error message, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
