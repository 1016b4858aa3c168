"""Self-training of existing weights on unlabelled video; see docs/training.md."""
