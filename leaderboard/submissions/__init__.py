"""Submissions to the leaderboard: packing, validation and collection."""
