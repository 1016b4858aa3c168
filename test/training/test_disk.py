"""What a full disk makes of torch's and safetensors' own writers."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from csl_tracker.training.disk import disk_errors

Full = Callable[[int], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"a": torch.zeros(100_000)}, path),
        lambda path: save_file({"a": torch.zeros(100_000)}, path),
        lambda path: path.write_bytes(bytes(100_000)),
    ],
    ids=["torch", "safetensors", "plain"],
)
def test_a_full_disk_is_the_systems_error_and_leaves_no_broken_checkpoint(
    tmp_path: Path, full_disk: Full, write: Callable[[Path], object]
) -> None:
    torch.save({"a": torch.zeros(10)}, tmp_path / "last.ckpt")
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as caught, full_disk(20_000), disk_errors(tmp_path):
        write(tmp_path / "best.ckpt")
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert caught.value.filename == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "no such file", "x"),
        PermissionError(errno.EACCES, "denied", "x"),
        OSError(errno.ENOSPC, "full", "some/file"),
        RuntimeError("shapes differ"),
    ],
)
def test_other_errors_pass_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error
