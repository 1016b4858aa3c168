"""The benchmark: the tracker node over DDS, and the networks of others on the same frames and cores; see docs/benchmark.md."""
