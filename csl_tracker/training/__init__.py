"""Training: configuration, data mixing, the Lightning module and the run. Needs the ``train`` extra."""
