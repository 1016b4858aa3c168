"""Synthetic endoscopy with exact labels, deterministic by seed; for training, the demo and tests."""

from csl_tracker.datasets.synthetic.scene import render_frame
from csl_tracker.datasets.synthetic.sequence import SyntheticSequence

__all__ = ["SyntheticSequence", "render_frame"]
