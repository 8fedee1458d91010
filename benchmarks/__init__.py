"""Measurements that anyone can run again; results with their samples are kept in benchmarks/results."""
