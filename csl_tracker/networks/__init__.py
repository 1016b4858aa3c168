"""The paper's networks: encoders, decoders, and the strategies that join them."""

from csl_tracker.networks.strategies import CslNetwork, NetworkConfig, NetworkOutput, build_network

__all__ = ["CslNetwork", "NetworkConfig", "NetworkOutput", "build_network"]
