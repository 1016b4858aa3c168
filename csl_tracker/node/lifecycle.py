"""A managed node that survives invalid requests.

rclpy raises on a transition that the present state does not allow, and ends the process when a service callback raises. Here
both are refused and logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lifecycle_msgs.msg import Transition
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

_SHUTDOWNS = (
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
)


class SturdyLifecycleNode(LifecycleNode):  # type: ignore[misc]  # rclpy brings no types on some distributions
    """Refuses invalid transitions, from ``trigger_*`` methods and from ``~/change_state``."""

    def __init__(self, name: str, **node_arguments: Any) -> None:
        super().__init__(name, **node_arguments)
        self._changing = threading.Lock()
        service = self._service_change_state
        change = service.callback

        def answer(request: Any, response: Any) -> Any:
            wanted = request.transition
            with self._allowed(wanted.label or int(wanted.id)) as transition:
                if transition is None:
                    response.success = False
                    return response
                wanted.id, wanted.label = transition, ""
                return change(request, response)

        service.callback = answer

    def trigger_configure(self) -> TransitionCallbackReturn:
        """Configure, from unconfigured."""
        return self._trigger(Transition.TRANSITION_CONFIGURE, super().trigger_configure)

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Activate, from inactive."""
        return self._trigger(Transition.TRANSITION_ACTIVATE, super().trigger_activate)

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """Deactivate, from active."""
        return self._trigger(Transition.TRANSITION_DEACTIVATE, super().trigger_deactivate)

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """Clean up, from inactive."""
        return self._trigger(Transition.TRANSITION_CLEANUP, super().trigger_cleanup)

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Shut down, from any state but finalized."""
        return self._trigger("shutdown", super().trigger_shutdown)

    def guard_services(self) -> None:
        """Keep the node alive if a service callback raises; call after all services exist."""
        for service in self.services:
            service.callback = self._guarded(service.callback, str(service.srv_name))

    def state_name(self) -> str:
        """Label of the present state, such as ``active``."""
        return str(self._state_machine.current_state[1])

    def _trigger(self, wanted: int | str, trigger: Callable[[], TransitionCallbackReturn]) -> TransitionCallbackReturn:
        with self._allowed(wanted) as transition:
            return TransitionCallbackReturn.FAILURE if transition is None else trigger()

    @contextmanager
    def _allowed(self, wanted: int | str) -> Iterator[int | None]:
        """Hold the lock and yield the ID of a transition (given by ID or label); log and yield None if it is not allowed."""
        if not self._changing.acquire(blocking=False):
            self.get_logger().error(f"The transition {wanted!r} is refused: another one is running.")
            yield None
            return
        try:
            possible = {int(number): str(label) for number, label, *_ in self._state_machine.available_transitions}
            # Each state has its own shutdown transition; accept any of them.
            if wanted in _SHUTDOWNS or wanted == "shutdown":
                wanted = "shutdown"
            found = next((number for number, label in possible.items() if wanted in (number, label)), None)
            if found is None:
                steps = ", ".join(possible.values()) or "none, this is the final state"
                self.get_logger().error(
                    f"The transition {wanted!r} is refused: the node is {self.state_name()}; possible transitions: {steps}."
                )
            yield found
        finally:
            self._changing.release()

    def _guarded(self, callback: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
        def answer(request: Any, response: Any) -> Any:
            try:
                return callback(request, response)
            except Exception as error:
                if not self.context.ok():
                    raise
                self.get_logger().error(f"The request to {name} failed ({type(error).__name__}: {error}).")
                return response

        return answer
