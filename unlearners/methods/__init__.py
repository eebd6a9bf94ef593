"""Built-in unlearning methods, one file each."""
