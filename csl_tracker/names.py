"""Names of models, and the names of files that are made of them."""

from __future__ import annotations

import re

from csl_tracker.errors import ConfigError
from csl_tracker.text import excerpt

_LONGEST = 200


def check_model_name(name: object) -> None:
    """Make sure that a model's name can be printed and cannot lead anywhere as a path.

    An experiment calls its models ``PROTOCOL/FOLD/MODEL/seedN``, so that slashes alone are no fault.

    Raises:
        ConfigError: It is no text, empty, too long, not printable, or has a part that is empty or begins with a dot.
    """
    if (
        not isinstance(name, str)
        or len(name) > _LONGEST
        or not name.isprintable()
        or "\\" in name
        or any(part[:1] in ("", ".", "-") for part in name.split("/"))
    ):
        raise ConfigError(
            f"The model's name is '{excerpt(name, _LONGEST)}'; give one of 1 to {_LONGEST} printable characters without"
            " backslashes, of which no part between slashes is empty or begins with a dot or a hyphen."
        )


def file_stem(name: str) -> str:
    """What files that are made of a model are called by: its name, with a low line for whatever is more than a word."""
    return re.sub(r"[^\w.+-]+", "_", name).lstrip(".-") or "model"
