"""Snapshots: immutable, memory-mapped images of the archive at one revision."""
