"""Synthetic endoscopy: deterministic by seed, with exact labels; for training on the fly, for the demo, and for tests."""

from csl_tracker.datasets.synthetic.scene import render_frame
from csl_tracker.datasets.synthetic.sequence import SyntheticSequence

__all__ = ["SyntheticSequence", "render_frame"]
