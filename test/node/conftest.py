import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csl_tracker.networks import NetworkConfig
from csl_tracker.node.processes import free_domain_id, private_environment
from csl_tracker.weights import Preprocessing


@pytest.fixture(scope="session")
def tiny_weights(make_weights) -> Path:
    """A whole model, small input, random weights: it tracks nothing in particular, and quickly."""
    network = NetworkConfig("unet", encoder="none", decoder="none", width=4)
    return make_weights(name="tiny", network=network, preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, (64, 64)))


@pytest.fixture(scope="session")
def ros_environment() -> dict[str, str]:
    """A domain of these tests' own, for this process and for those that it starts."""
    environment = private_environment(free_domain_id())
    os.environ.update(environment)
    return environment


class Peer:
    """A node in this process that talks to the one under test."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[])
        self.node = rclpy.create_node("peer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"timed out: {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, duration_s: float) -> None:
        end = time.monotonic() + duration_s
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.01)

    def listen(self, kind: Any, topic: str) -> list[Any]:
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, 50)
        return received

    def watch_over(self, kind: Any, topic: str, lease_s: float) -> dict[str, Any]:
        """Subscribe as a controller does, with a lease and a deadline, and keep count of what comes of it."""
        from rclpy.duration import Duration
        from rclpy.qos import LivelinessPolicy, QoSProfile, ReliabilityPolicy

        from csl_tracker.node.distributions import SubscriptionEventCallbacks

        found: dict[str, Any] = {"alive": None, "deadlines": 0, "seen": 0}
        events = SubscriptionEventCallbacks(
            liveliness=lambda status: found.update(alive=status.alive_count > 0),
            deadline=lambda status: found.update(deadlines=status.total_count),
        )
        lease = Duration(seconds=lease_s)
        quality = QoSProfile(
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE,
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=lease,
            deadline=lease,
        )

        def count(message: Any) -> None:
            found["seen"] += 1

        self.node.create_subscription(kind, topic, count, quality, event_callbacks=events)
        return found

    def publisher(self, kind: Any, topic: str) -> Any:
        return self.node.create_publisher(kind, topic, 1)


@pytest.fixture
def peer(ros_environment):
    pytest.importorskip("rclpy")
    peer = Peer()
    yield peer
    peer.close()
