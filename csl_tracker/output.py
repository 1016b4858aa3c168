"""Output that appears when it is complete, or not at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

T = TypeVar("T", bound="AtomicOutput")


class AtomicOutput(ABC):
    """Something that is written under a temporary name.

    As a context manager it keeps what was written when the block ends well, and leaves nothing when the block raises.
    """

    @abstractmethod
    def close(self) -> None:
        """Finish the output and give it its name."""

    @abstractmethod
    def abort(self) -> None:
        """Leave nothing behind."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
