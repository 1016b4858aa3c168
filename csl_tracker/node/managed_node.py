"""Base of the managed nodes: transitions, parameters, diagnostics and a rate-limited log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter

from csl_tracker.errors import ConfigError, CslTrackerError
from csl_tracker.node.declaration import as_double, declare_parameters
from csl_tracker.node.lifecycle import SturdyLifecycleNode
from csl_tracker.node.parameter_table import ParameterTable, check, refusal

WARNING_PERIOD_S = 5.0
"""Minimum interval between log messages of the same kind."""

DIAGNOSTICS_PERIOD_S = 1.0

_NAMES_COME_S = 0.5
"""Delay between the discovery of a remote publisher and of its node's name, unless the machine is overloaded."""

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(SturdyLifecycleNode):
    """A lifecycle node that logs why a transition failed and rolls it back.

    Subclasses implement :meth:`configure`, :meth:`activate`, :meth:`deactivate`, :meth:`clean_up` and :meth:`diagnose`, and
    call :meth:`complete` at the end of ``__init__``.

    Attributes:
        fault: Reason of the last failed transition; empty after success.
    """

    def __init__(self, name: str, table: ParameterTable, arguments: Sequence[str] | None = None, **node_arguments: Any) -> None:
        """Declare the parameters.

        Args:
            name: Name of the node.
            table: Its parameters.
            arguments: Command line; None for this process's own.
            node_arguments: See ``rclpy.node.Node``.

        Raises:
            ParameterException: Wrong type, or out of range.
            ConfigError: Unknown name, or not one of the allowed choices.
        """
        super().__init__(name, **node_arguments)
        self.fault = ""
        self._table = table
        self._starting = False
        self._log_times_s: dict[str, float] = {}
        declare_parameters(self, table, arguments)

    def complete(self, title: str) -> None:
        """Start the diagnostics and guard the services; call after all services exist.

        Args:
            title: Title of the diagnostics, after the node's name.
        """
        self._title = title
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.guard_services()
        # The steady clock keeps running when a bag or a simulation pauses.
        self._diagnostics_timer = self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    # --- hooks for subclasses

    def configure(self) -> None:
        """Load the model and create publishers; after an error, :meth:`clean_up` is called."""
        raise NotImplementedError

    def activate(self) -> None:
        """Subscribe and start work; after an error, :meth:`deactivate` is called."""
        raise NotImplementedError

    def deactivate(self) -> None:
        """Undo :meth:`activate`. Valid in any state."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Undo :meth:`configure`. Valid in any state."""
        raise NotImplementedError

    def diagnose(self) -> tuple[int, str, dict[str, str]]:
        """Level, message and values of the diagnostics."""
        raise NotImplementedError

    def parameters_changed(self) -> None:
        """Apply changed parameter values."""

    # --- transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """SUCCESS leads to inactive, FAILURE to unconfigured."""
        return self._attempt(self.configure, self.clean_up)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """SUCCESS leads to active, FAILURE to inactive."""
        return self._attempt(self.activate, self.deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leads to inactive."""
        self.deactivate()
        return _SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leads to unconfigured."""
        self.clean_up()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; leads to finalized."""
        self.deactivate()
        self.clean_up()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything after an unexpected failure; leads to unconfigured."""
        self.deactivate()
        self.clean_up()
        return _SUCCESS

    def start(self) -> None:
        """Configure and activate, as ``autostart`` does.

        Raises:
            ConfigError: One of the two transitions failed; the message is its reason.
        """
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != _SUCCESS:
                raise ConfigError(self.fault or "The node could not be started; see the log messages above.")
        self._starting = False

    def destroy_node(self) -> None:
        """Destroy the state machine too: rclpy would keep it, and the DDS participant, until garbage collection."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _attempt(self, work: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        """Run a transition; on failure, log the reason and roll back."""
        try:
            work()
        except CslTrackerError as error:
            self.fault = str(error)
        except Exception as error:  # rclpy would swallow it silently
            self.fault = f"{type(error).__name__}: {error}"
        else:
            self.fault = ""
            return _SUCCESS
        if not self._starting:  # else start() raises the reason
            self.get_logger().error(self.fault)
        undo()
        return _FAILURE

    # --- parameters

    def values(self) -> dict[str, Any]:
        """Present values of all parameters in the table."""
        return {name: self.get_parameter(name).value for name in self._table}

    def set_parameters_atomically(self, parameter_list: list[RosParameter]) -> SetParametersResult:
        """Set parameters, or explain the refusal, which rclpy's own messages do not."""
        parameter_list = [
            as_double(one, self._table[one.name].default if one.name in self._table else None) for one in parameter_list
        ]
        for parameter in parameter_list:
            if parameter.name not in self._table:
                continue
            reason = refusal(self._table, parameter.name, self.state_name(), self.get_fully_qualified_name())
            try:
                check(self._table, parameter.name, parameter.value)
            except ConfigError as error:
                reason = reason or str(error)
            if reason is not None:
                return SetParametersResult(successful=False, reason=reason)
        result: SetParametersResult = super().set_parameters_atomically(parameter_list)
        if result.successful:
            self.parameters_changed()
        return result

    # --- log and diagnostics

    def log_now_and_then(self, key: str, text: str, *, info: bool = False) -> None:
        """Log a warning (or an info) unless one with this key was logged in the last :data:`WARNING_PERIOD_S`."""
        now = time.monotonic()
        if not text or now - self._log_times_s.get(key, -WARNING_PERIOD_S) < WARNING_PERIOD_S:
            return
        self._log_times_s[key] = now
        if info:
            self.get_logger().info(text)
        else:
            self.get_logger().warning(text)

    def explain_soon(self, topic: str, explain: Callable[[], list[str]]) -> None:
        """Log an explanation of a QoS mismatch after a delay, when the remote node's name is known."""

        def explain_now() -> None:
            timer.cancel()
            self.destroy_timer(timer)
            self.log_now_and_then(topic, " ".join(explain()))

        timer = self.create_timer(_NAMES_COME_S, explain_now, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def hardware_id(self) -> str:
        """The ``hardware_id`` of the diagnostics."""
        return ""

    def _publish_diagnostics(self) -> None:
        level, message, values = self.diagnose()
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"{self.get_fully_qualified_name()}: {self._title}",
            message=message,
            hardware_id=self.hardware_id(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)
