"""Task classes and metrics of MUSE."""
