"""Engines: run a model on a source image, pre- and post-processing included, on one device."""

from csl_tracker.engines.base import Engine, EngineOutput
from csl_tracker.engines.factory import create_engine

__all__ = ["Engine", "EngineOutput", "create_engine"]
