"""Errors that a user can cause and can mend.

Every message is one full sentence that names the file, the offending value and the remedy. The command line prints it
without a traceback and exits with 2; anything that is not a ``CslTrackerError`` is a defect of this package. Names and values
in a message come from files: as a text it holds nothing that steers a terminal.
"""

from __future__ import annotations

from csl_tracker.text import printable

EXIT_USER_ERROR = 2
"""Exit status after a mistake of the user."""
EXIT_INTERRUPTED = 130
"""Exit status after Ctrl-C."""


class CslTrackerError(Exception):
    """Base of all errors that a user can cause and can mend."""

    def __str__(self) -> str:
        return printable(super().__str__(), lines=False)


class ConfigError(CslTrackerError):
    """A configuration file or an override names something unknown or impossible."""


class DatasetError(CslTrackerError):
    """A dataset folder, a video, a mask or an annotation file is missing, broken or inconsistent."""


class WeightsError(CslTrackerError):
    """A weights file is missing, truncated, foreign, or made for other landmarks or classes."""


class ImageError(CslTrackerError):
    """An image that cannot be used: empty, of an unknown encoding, or of impossible dimensions."""


class BagError(CslTrackerError):
    """A bag is missing, broken, or lacks the topic that was asked for."""


class EngineError(CslTrackerError):
    """An inference engine or a device that was asked for is not there."""


def first_line(error: BaseException) -> str:
    """What an error says, on one line and without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
