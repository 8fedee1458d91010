"""The write side: sources, cleaning, embedding, store, snapshot. Start reading at pipeline.py."""
