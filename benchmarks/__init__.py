"""Measurements that anyone can repeat; results with their samples are in benchmarks/results."""
