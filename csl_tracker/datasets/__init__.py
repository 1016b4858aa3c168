"""Datasets: one module per public layout, all yielding the same :class:`~csl_tracker.datasets.sample.Sample`."""
