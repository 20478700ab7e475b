"""The commands of `cupel`, a file for each kind: what a person may say, and which function does it."""
