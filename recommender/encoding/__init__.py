"""Texts to vectors: which texts are embedded, with which model, in which batches."""
