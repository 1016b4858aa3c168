"""Training: configuration, data, the Lightning module and training runs. Needs the ``train`` extra."""
