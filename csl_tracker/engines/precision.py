"""Numeric precision of a network; ``float32`` on CUDA means float32 without TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("auto", "float32", "tf32", "float16", "bfloat16")
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""Tensor dtype of each precision; TF32 is a multiplication mode for float32."""


@contextmanager
def multiplication(precision: str) -> Iterator[None]:
    """Enable or disable TF32 for float32 convolutions and matrix products on CUDA; restores the setting on exit.

    Torch enables TF32 for convolutions by default. The setting is global to the process; a CUDA graph keeps the setting of its
    capture. This uses the older of torch's two APIs: TorchInductor reads it, and fails if the newer one sets convolutions and
    recurrent layers differently.

    Args:
        precision: A key of ``DTYPES``; only ``tf32`` enables TF32.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
