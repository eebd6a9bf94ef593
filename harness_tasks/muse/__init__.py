"""The tasks of MUSE, one YAML file each, for lm-eval to find in this folder."""
