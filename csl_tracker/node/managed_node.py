"""What the managed nodes share: transitions, a table of parameters, diagnostics, and a log that cannot be flooded."""

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
"""A message of one kind is logged at most this often."""

DIAGNOSTICS_PERIOD_S = 1.0

_NAMES_COME_S = 0.5
"""The name of a remote node arrives this long after its publisher, unless the machine is overloaded."""

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(SturdyLifecycleNode):
    """A lifecycle node that says why it fails and refuses what cannot be done.

    A subclass implements :meth:`configure`, :meth:`activate`, :meth:`deactivate`, :meth:`clean_up` and :meth:`diagnose`, and
    calls :meth:`complete` at the end of its ``__init__``.

    Attributes:
        fault: Why the last configuration or activation failed; empty after a good one.
    """

    def __init__(self, name: str, table: ParameterTable, arguments: Sequence[str] | None = None, **node_arguments: Any) -> None:
        """Declare the parameters.

        Args:
            name: Name of the node.
            table: Its parameters.
            arguments: Command line of the process; None takes the process's own.
            node_arguments: See ``rclpy.node.Node``.

        Raises:
            ParameterException: A parameter was given with another type, or out of its range.
            ConfigError: A parameter is none of its choices, or unknown.
        """
        super().__init__(name, **node_arguments)
        self.fault = ""
        self._table = table
        self._starting = False
        self._log_times_s: dict[str, float] = {}
        declare_parameters(self, table, arguments)

    def complete(self, title: str) -> None:
        """Publish diagnostics from now on, and guard the services: to be called when all of them are there.

        Args:
            title: Of the diagnostics, after the node's name.
        """
        self._title = title
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.guard_services()
        # A clock that neither a bag's nor a simulation's time stops.
        self._diagnostics_timer = self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    # --- what a subclass does

    def configure(self) -> None:
        """Load what is needed and make the publishers; errors are logged, and :meth:`clean_up` follows."""
        raise NotImplementedError

    def activate(self) -> None:
        """Subscribe and begin; errors are logged, and :meth:`deactivate` follows."""
        raise NotImplementedError

    def deactivate(self) -> None:
        """End what :meth:`activate` began. May be called in any state."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Free what :meth:`configure` made. May be called in any state."""
        raise NotImplementedError

    def diagnose(self) -> tuple[int, str, dict[str, str]]:
        """Level, message and values of the diagnostics."""
        raise NotImplementedError

    def parameters_changed(self) -> None:
        """Take over the present values of the parameters."""

    # --- transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """SUCCESS leads to inactive; FAILURE, after one sentence in the log, leads to unconfigured."""
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
        """Free everything, from any state; leads to finalized."""
        self.deactivate()
        self.clean_up()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything after a transition that failed unexpectedly; leads to unconfigured."""
        self.deactivate()
        self.clean_up()
        return _SUCCESS

    def start(self) -> None:
        """Configure and activate, as ``autostart`` does.

        Raises:
            ConfigError: One of the two has failed, and why.
        """
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != _SUCCESS:
                raise ConfigError(self.fault or "The node could not be started; the log above tells why.")
        self._starting = False

    def destroy_node(self) -> None:
        """Leave the graph at once: rclpy keeps the state machine, and with it the DDS participant, until garbage collection."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _attempt(self, work: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        """Do the work of a transition; where it fails, say why and undo it."""
        try:
            work()
        except CslTrackerError as error:
            self.fault = str(error)
        except Exception as error:  # rclpy swallows it, so that nobody would ever know
            self.fault = f"{type(error).__name__}: {error}"
        else:
            self.fault = ""
            return _SUCCESS
        if not self._starting:  # else the caller of start() says it
            self.get_logger().error(self.fault)
        undo()
        return _FAILURE

    # --- parameters

    def values(self) -> dict[str, Any]:
        """The present value of every parameter of the table."""
        return {name: self.get_parameter(name).value for name in self._table}

    def set_parameters_atomically(self, parameter_list: list[RosParameter]) -> SetParametersResult:
        """Set parameters, or refuse what cannot be changed now; rclpy's own refusals do not say what to do."""
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
        """Log a warning, or an information, unless one of this key was logged in the last :data:`WARNING_PERIOD_S`."""
        now = time.monotonic()
        if not text or now - self._log_times_s.get(key, -WARNING_PERIOD_S) < WARNING_PERIOD_S:
            return
        self._log_times_s[key] = now
        if info:
            self.get_logger().info(text)
        else:
            self.get_logger().warning(text)

    def explain_soon(self, topic: str, explain: Callable[[], list[str]]) -> None:
        """Log why two ends of a topic do not match, a moment later: the name of the remote node comes after the end itself."""

        def explain_now() -> None:
            timer.cancel()
            self.destroy_timer(timer)
            self.log_now_and_then(topic, " ".join(explain()))

        timer = self.create_timer(_NAMES_COME_S, explain_now, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def hardware_id(self) -> str:
        """What the diagnostics are about."""
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
