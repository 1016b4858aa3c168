"""Path-traced and procedural pictures for training."""
