"""Engines run a model, including pre- and post-processing, on one device."""

from csl_tracker.engines.base import Engine, EngineOutput
from csl_tracker.engines.factory import create_engine

__all__ = ["Engine", "EngineOutput", "create_engine"]
