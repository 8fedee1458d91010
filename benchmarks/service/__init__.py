"""Whole answers of a running service beside the empty call of the same server; start and memory."""
