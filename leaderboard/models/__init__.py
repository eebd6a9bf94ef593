"""Model folders: loading, saving, identity and cards."""
