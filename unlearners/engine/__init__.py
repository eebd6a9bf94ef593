"""Training loop that every unlearning method runs in."""
