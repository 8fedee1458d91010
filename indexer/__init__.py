"""Indexing and the command line: sources, cleaning, embedding, store, snapshot. Start reading at pipeline.py."""
