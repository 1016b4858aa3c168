"""The command ``csl-tracker``: one module per sub-command."""
