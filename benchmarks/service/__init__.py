"""Whole answers of a running service: latency, throughput, start, memory; beside the empty call of the same server."""
