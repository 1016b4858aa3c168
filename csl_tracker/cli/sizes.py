"""Image sizes on the command line."""

from __future__ import annotations

import argparse

from csl_tracker.pixels import Size, parse_size


def size_argument(text: str) -> Size:
    """Parse ``480x640`` as (height, width), for argparse.

    Raises:
        ArgumentTypeError: Not a size.
    """
    size = parse_size(text)
    if size is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give height x width in px, such as 480x640")
    return size
