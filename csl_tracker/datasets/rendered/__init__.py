"""Path-traced instruments and scenes, the bank that stores them, and training frames composed from it."""
