"""What a network computes in, and that it says so truly: ``float32`` on CUDA is float32, and not TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("auto", "float32", "tf32", "float16", "bfloat16")
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What the tensors of each precision are; TF32 is a way to multiply float32."""


@contextmanager
def multiplication(precision: str) -> Iterator[None]:
    """Let convolutions and matrix products of float32 on CUDA use TF32, or not; everything is as it was afterwards.

    Torch allows TF32 for convolutions by default. The setting is one of the process: what is captured in a CUDA graph meanwhile
    keeps it. These switches are the older ones of two that torch has; its own compiler reads them, and fails where the newer
    ones have set convolutions and recurrent layers apart.

    Args:
        precision: A key of ``DTYPES``; TF32 is allowed for ``tf32`` alone.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
