"""CUDA graphs without CUDA: what is recorded is replayed on the same memory, and owns no more of it than a graph does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class StaleMemoryError(AssertionError):
    """A graph would read memory that was freed."""


class _Outside:
    """A tensor that was there before the recording: its place in memory, and not a reference to it."""

    def __init__(self, tensor: Tensor) -> None:
        self.storage = StorageWeakRef(tensor.untyped_storage())
        self.place = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        self.dtype = tensor.dtype

    def tensor(self) -> Tensor:
        storage = None if self.storage.expired() else torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        if storage is None:
            raise StaleMemoryError(f"a graph reads {self.place[1]} numbers that were freed")
        return torch.empty(0, dtype=self.dtype).set_(storage, *self.place)


class _Made:
    """A tensor that the recording made, by its number."""

    def __init__(self, number: int) -> None:
        self.number = number


def _tensors(result: Any) -> list[Tensor]:
    return [item for item in (result if isinstance(result, tuple | list) else [result]) if isinstance(item, Tensor)]


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, list[int]]] = []
        self.numbers: dict[int, int] = {}
        self.alive: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}

        def refer(tensor: Tensor) -> Any:
            return _Made(self.numbers[id(tensor)]) if id(tensor) in self.numbers else _Outside(tensor)

        taken = tree_map_only(Tensor, refer, (args, kwargs))
        result = func(*args, **kwargs)
        made = _tensors(result)
        for tensor in made:
            if id(tensor) not in self.numbers:
                self.numbers[id(tensor)] = len(self.alive)
                self.alive.append(tensor)
        self.steps.append((func, *taken, [self.numbers[id(tensor)] for tensor in made]))
        return result


class EmulatedRecorder:
    """Records what torch dispatches.

    Attributes:
        recorded: Graphs so far.
        failure: Raised instead of the next recording.
    """

    def __init__(self, failure: Exception | None = None) -> None:
        self.recorded, self.replayed, self.failure = 0, 0, failure

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        if self.failure is not None:
            raise self.failure
        with _Tape() as tape:
            made = function()
        self.recorded += 1
        last = tape.numbers[id(made)]
        steps = tape.steps

        def replay() -> None:
            self.replayed += 1
            memory: dict[int, Tensor] = {}
            for func, args, kwargs, numbers in steps:
                args, kwargs = tree_map_only(
                    _Outside, _Outside.tensor, tree_map_only(_Made, lambda item: memory[item.number], (args, kwargs))
                )
                memory.update(zip(numbers, _tensors(func(*args, **kwargs)), strict=True))
            made.copy_(memory[last])

        return made, replay
