"""Records: the schema of a measured cell, and survival reports of checkpoints."""
