"""A managed node that no request from outside can end.

rclpy raises where a transition is asked for that the present state does not have, and ends the process where a service's
callback raises. Here both are refused, logged, and the node lives.
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
    """Refuses what cannot be done, for callers within (``trigger_*``) and without (``~/change_state``)."""

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
        """Load, from unconfigured."""
        return self._trigger(Transition.TRANSITION_CONFIGURE, super().trigger_configure)

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Begin, from inactive."""
        return self._trigger(Transition.TRANSITION_ACTIVATE, super().trigger_activate)

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """End, from active."""
        return self._trigger(Transition.TRANSITION_DEACTIVATE, super().trigger_deactivate)

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """Free, from inactive."""
        return self._trigger(Transition.TRANSITION_CLEANUP, super().trigger_cleanup)

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """End for good, from any state but finalized."""
        return self._trigger("shutdown", super().trigger_shutdown)

    def guard_services(self) -> None:
        """Keep the node alive whatever its services are asked; to be called when all of them are there."""
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
        """The number of a transition (by number or label) that is possible now and stays so meanwhile; None, and why, else."""
        if not self._changing.acquire(blocking=False):
            self.get_logger().error(f"The transition {wanted!r} is refused: another one is under way.")
            yield None
            return
        try:
            possible = {int(number): str(label) for number, label, *_ in self._state_machine.available_transitions}
            # Each state has a shutdown of its own; whoever asks for one means the node's.
            if wanted in _SHUTDOWNS or wanted == "shutdown":
                wanted = "shutdown"
            found = next((number for number, label in possible.items() if wanted in (number, label)), None)
            if found is None:
                steps = ", ".join(possible.values()) or "none, this state is the last one"
                self.get_logger().error(
                    f"The transition {wanted!r} is refused: the node is {self.state_name()}; possible are: {steps}."
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
                self.get_logger().error(f"A request to {name} cannot be answered ({type(error).__name__}: {error}).")
                return response

        return answer
