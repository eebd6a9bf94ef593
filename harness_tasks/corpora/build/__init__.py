"""Building a corpus in MUSE's shape from a user's own text."""
