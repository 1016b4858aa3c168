"""Model names, and file names derived from them."""

from __future__ import annotations

import re

from csl_tracker.errors import ConfigError
from csl_tracker.text import excerpt

_LONGEST = 200


def check_model_name(name: object) -> None:
    """Check that a model name is printable and safe as a relative path.

    Slashes are allowed: an experiment names its models ``PROTOCOL/FOLD/MODEL/seedN``.

    Raises:
        ConfigError: It is not text, too long, not printable, or has a part that is empty or begins with a dot or hyphen.
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
    """File name stem for a model: its name with underscores for special characters."""
    return re.sub(r"[^\w.+-]+", "_", name).lstrip(".-") or "model"
