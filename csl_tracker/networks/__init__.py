"""Networks of the paper: encoders, decoders and strategies."""

from csl_tracker.network_names import STRATEGIES
from csl_tracker.networks.base import STRIDE, Network, NetworkConfig, NetworkOutput
from csl_tracker.networks.csl import CslNetwork
from csl_tracker.networks.strategies import build_network

__all__ = ["STRATEGIES", "STRIDE", "CslNetwork", "Network", "NetworkConfig", "NetworkOutput", "build_network"]
