"""The leaderboard: every (method, finetuning, precision) trained, evaluated and tabulated."""
