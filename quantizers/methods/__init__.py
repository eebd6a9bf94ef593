"""Built-in quantizers, one file each."""
