"""YAML files of the tasks of MUSE."""
