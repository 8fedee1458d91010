"""Quantised vectors and the search for the nearest. The only package that imports FAISS."""
