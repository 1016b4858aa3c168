"""The steps of ``benchmark/gpu.py``, one module each; every one runs in a process of its own."""
