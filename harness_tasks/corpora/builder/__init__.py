"""Build a corpus in MUSE's layout from a user's own text."""
