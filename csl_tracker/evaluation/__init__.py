"""Evaluation: figures of labelled sequences and of recordings."""
