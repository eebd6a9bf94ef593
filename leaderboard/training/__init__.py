"""Training of checkpoints."""
