"""Can any command kill the tracker node? ``python benchmark/random_walk.py --calls 2000 --json docs/results/random_walk.json``.

A tracker node in a process of its own gets random calls of its services: transitions by any number or label, parameters of any
name, type and value, ``~/enable``, ``~/reset``, and all the questions that a node answers. Meanwhile images of random sizes,
encodings and stamps arrive. Each call has to be answered. At the end the node is brought to its active state, and has to
track a frame. The shutdown transition is left out: nothing leads back from there.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.messages import topics
from csl_tracker.messages.poses import make_header, stamp_ns
from csl_tracker.node.processes import NodeProcess, free_domain_id, private_environment, run_stoppable
from csl_tracker.node.tracker_parameters import PARAMETERS
from csl_tracker.output import write_text
from csl_tracker.process_memory import resident_mb
from csl_tracker.provenance import machine, versions

NODE = f"/{topics.TRACKER_NODE}"
ANSWER_TIMEOUT_S = 180.0
IMAGE_PERIOD_S = 0.2
SHUTDOWNS = (5, 6, 7)
LABELS = ("configure", "activate", "deactivate", "cleanup", "create", "destroy", "transition_success", "", "\u00e4", "x" * 500)
NAMES = (*PARAMETERS, "use_sim_time", "no_such_parameter", "")
STAYS = ("weights", "use_sim_time", "expected_rate", "image_transport", "pose_frame", "image_reliability", "device", "engine")
"""Parameters that get impossible values alone: other ones would change what is tried, or where images are expected."""


class Walker:
    """Calls a node's services and shows it images.

    Args:
        process: The tracker.
        seed: Of all that is random.
        largest: Largest side of an image, px.
    """

    def __init__(self, process: NodeProcess, seed: int, largest: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image

        from csl_tracker_msgs.msg import InstrumentPoseArray

        self.process, self.rng, self.largest = process, np.random.default_rng(seed), largest
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[])
        self.node = rclpy.create_node("walker", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.camera = self.node.create_publisher(Image, topics.IMAGE, 1)
        self.tracked: Counter[int] = Counter()
        self.node.create_subscription(InstrumentPoseArray, f"{NODE}/poses", self._receive, 10)
        self.clients: dict[str, Any] = {}
        self.calls: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.shown = 0
        self._ended = threading.Event()
        self._camera_thread = threading.Thread(target=self._show_images, daemon=True)

    def _receive(self, message: Any) -> None:
        self.tracked[stamp_ns(message.header.stamp)] += 1

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service and wait for its answer.

        Raises:
            RuntimeError: The node has ended, or gives no answer.
        """
        client = self.clients.setdefault(name, self.node.create_client(kind, f"{NODE}/{name}"))
        end = time.monotonic() + ANSWER_TIMEOUT_S
        self._spin_until(client.service_is_ready, end, f"{name} is not there")
        future = client.call_async(request)
        self._spin_until(future.done, end, f"{name} has no answer to {request}")
        return future.result()

    def _spin_until(self, done: Any, end: float, what: str) -> None:
        while not done():
            if self.process.poll() is not None:
                raise RuntimeError(f"The node has ended with status {self.process.poll()}: {self.process.output()[-2000:]}")
            if time.monotonic() > end:
                raise RuntimeError(f"{what}: {self.process.output()[-2000:]}")
            self.executor.spin_once(timeout_sec=0.05)

    def change(self, number: int = 0, label: str = "") -> bool:
        """Ask for a transition; whether it was done."""
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.id, request.transition.label = number, label
        return bool(self.call(ChangeState, "change_state", request).success)

    def state(self) -> str:
        """The node's state."""
        from lifecycle_msgs.srv import GetState

        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def step(self) -> None:
        """One random call."""
        kind = str(self.rng.choice(["transition", "parameter", "question", "switch"], p=[0.45, 0.35, 0.1, 0.1]))
        good = getattr(self, f"_{kind}")()
        self.calls[f"{kind}, {'done' if good else 'refused'}"] += 1

    def _transition(self) -> bool:
        if self.rng.random() < 0.6:  # the four that may be possible
            number, label = int(self.rng.integers(1, 5)), ""
        elif self.rng.random() < 0.5:
            number, label = int(self.rng.integers(0, 256)), ""
        else:
            number, label = 0, str(self.rng.choice(LABELS))
        if number in SHUTDOWNS:
            number = 0
        good = self.change(number, label)
        self.states[self.state()] += 1
        return good

    def _parameter(self) -> bool:
        from rcl_interfaces.msg import Parameter, ParameterValue
        from rcl_interfaces.srv import SetParameters, SetParametersAtomically

        name = str(self.rng.choice(NAMES))
        value = ParameterValue(type=int(self.rng.integers(0, 12)))
        if name not in STAYS and self.rng.random() < 0.5:  # one of its own type, that may be possible
            value.type = (
                {"bool": 1, "integer": 2, "double": 3, "string": 4}.get(PARAMETERS[name].kind, 0) if name in PARAMETERS else 4
            )
        value.bool_value = bool(self.rng.random() < 0.5)
        value.integer_value = int(self.rng.choice([-1, 0, 1, 2, 5, 64, 2**62]))
        value.double_value = float(self.rng.choice([-1.0, 0.0, 0.5, 30.0, np.nan, np.inf]))
        value.string_value = str(self.rng.choice(["", "nonsense", "%s", "\u00e4", "x" * 1000]))
        if name in STAYS and value.type in (1, 2, 3, 4):
            value.type = 4
            value.string_value = "nonsense"
        parameters = [Parameter(name=name, value=value)] * int(self.rng.integers(0, 3))
        if self.rng.random() < 0.5:
            answers = self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters)).results
            return all(answer.successful for answer in answers)
        request = SetParametersAtomically.Request(parameters=parameters)
        return bool(self.call(SetParametersAtomically, "set_parameters_atomically", request).result.successful)

    def _question(self) -> bool:
        from lifecycle_msgs.srv import GetAvailableStates, GetAvailableTransitions
        from rcl_interfaces.srv import DescribeParameters, GetParameters, GetParameterTypes, ListParameters

        names = [str(name) for name in self.rng.choice(NAMES, int(self.rng.integers(0, 4)))]
        kind, name, request = [
            (GetAvailableStates, "get_available_states", GetAvailableStates.Request()),
            (GetAvailableTransitions, "get_available_transitions", GetAvailableTransitions.Request()),
            (GetAvailableTransitions, "get_transition_graph", GetAvailableTransitions.Request()),
            (DescribeParameters, "describe_parameters", DescribeParameters.Request(names=names)),
            (GetParameters, "get_parameters", GetParameters.Request(names=names)),
            (GetParameterTypes, "get_parameter_types", GetParameterTypes.Request(names=names)),
            (ListParameters, "list_parameters", ListParameters.Request(prefixes=names, depth=int(self.rng.integers(0, 9)))),
        ][int(self.rng.integers(0, 7))]
        self.call(kind, name, request)
        return True

    def _switch(self) -> bool:
        from std_srvs.srv import SetBool, Trigger

        if self.rng.random() < 0.5:
            return bool(self.call(Trigger, "reset", Trigger.Request()).success)
        return bool(self.call(SetBool, "enable", SetBool.Request(data=bool(self.rng.random() < 0.5))).success)

    def begin(self) -> None:
        """Show images from now on."""
        self._camera_thread.start()

    def end(self) -> None:
        """Show no more images."""
        self._ended.set()
        if self._camera_thread.is_alive():
            self._camera_thread.join()

    def close(self) -> None:
        """Leave ROS."""
        self.end()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def _show_images(self) -> None:
        from sensor_msgs.msg import Image

        from csl_tracker.messages.images import fill_image
        from csl_tracker.node.ros_types import ROS_TYPES

        rng = np.random.default_rng(int(self.rng.integers(2**31)))
        while not self._ended.wait(IMAGE_PERIOD_S):
            height, width = (int(side) for side in rng.integers(1, self.largest, 2))
            jitter_ns = int(rng.choice([0, 0, 0, -5, -50, -5000]) * 1e6)
            message = Image(header=make_header(ROS_TYPES, time.time_ns() + jitter_ns, "camera"))
            fill_image(message, rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            if rng.random() < 0.05:
                message.encoding = "nonsense"
            self.camera.publish(message)
            self.shown += 1

    def track_a_frame(self) -> int:
        """Bring the node to its active state and show it one image until its poses come.

        Returns:
            How many transitions that took.
        """
        from rcl_interfaces.msg import Parameter, ParameterValue
        from rcl_interfaces.srv import SetParameters
        from sensor_msgs.msg import Image
        from std_srvs.srv import SetBool

        from csl_tracker.messages.images import fill_image
        from csl_tracker.node.ros_types import ROS_TYPES

        limit = Parameter(name="rate_limit", value=ParameterValue(type=3, double_value=0.0))
        device = Parameter(name="device", value=ParameterValue(type=4, string_value="cpu"))  # nonsense is refused at configure
        self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[limit, device]))
        steps = {"unconfigured": "configure", "inactive": "activate"}
        changes = 0
        while (state := self.state()) != "active":
            if not self.change(label=steps[state]):
                raise RuntimeError(f"{steps[state]} was refused: {self.process.output()[-2000:]}")
            changes += 1
        self.call(SetBool, "enable", SetBool.Request(data=True))
        stamp = time.time_ns() + 10**9
        message = Image(header=make_header(ROS_TYPES, stamp, "camera"))
        fill_image(message, np.zeros((240, 320, 3), np.uint8))
        again_s = 0.0

        def answered() -> bool:
            nonlocal again_s
            if time.monotonic() > again_s:
                again_s = time.monotonic() + 1.0
                self.camera.publish(message)
            return bool(self.tracked[stamp])

        self._spin_until(answered, time.monotonic() + ANSWER_TIMEOUT_S, "the last frame was not tracked")
        return changes


def memory_and_threads(pid: int) -> dict[str, float]:
    """Memory in RAM, MB, and threads of a process."""
    return {"memory_mb": round(resident_mb(pid), 1), "threads": len(os.listdir(f"/proc/{pid}/task"))}


def walk(process: NodeProcess, calls: int, seed: int, largest: int) -> dict[str, Any]:
    """Let a running tracker be called at random.

    Returns:
        What was done and found.
    """
    walker = Walker(process, seed, largest)
    began, samples = time.monotonic(), []
    try:
        walker.track_a_frame()
        walker.begin()
        for index in tqdm(range(calls), desc="random walk", unit="call", disable=None):
            walker.step()
            if index % max(1, calls // 20) == 0:
                samples.append(memory_and_threads(process.pid))
        walker.end()
        changes = walker.track_a_frame()
        samples.append(memory_and_threads(process.pid))
    finally:
        walker.close()
    return {
        "calls": dict(sorted(walker.calls.items())),
        "states_after_transitions": dict(sorted(walker.states.items())),
        "images_shown": walker.shown,
        "pose_arrays": sum(walker.tracked.values()),
        "transitions_to_active_at_the_end": changes,
        "last_frame_tracked": True,
        "samples": samples,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Start the tracker, walk, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=1300, metavar="PX", help="largest side of an image")
    parser.add_argument("--weights", default="", help="weights file (default: the one that comes with the package)")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    environment = private_environment(free_domain_id())
    os.environ.update(environment)
    parameters = {"weights": args.weights, "device": "cpu", "engine": args.engine}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "tracker.log"
        with NodeProcess("tracker_node", parameters, {"image": topics.IMAGE}, environment, log) as process:
            figures = walk(process, args.calls, args.seed, args.largest)
            figures["exit_status"] = process.stop()
            figures["tracebacks"] = process.output().count("Traceback")
            figures["summary"] = process.complaint()
            if figures["tracebacks"]:
                print(process.output(), file=sys.stderr)
    result = {"command": shlex.join(["python", *sys.argv]), "machine": machine(), "versions": versions(), **figures}
    write_text(args.json, json.dumps(result, indent=2) + "\n")
    first, last = figures["samples"][0], figures["samples"][-1]
    print(
        f"{sum(figures['calls'].values())} calls, {figures['images_shown']} images; the last frame was tracked, exit status"
        f" {figures['exit_status']}; memory {first['memory_mb']:.0f} to {last['memory_mb']:.0f} MB, threads"
        f" {first['threads']} to {last['threads']}."
    )


if __name__ == "__main__":
    sys.exit(run_stoppable("random_walk", main))
