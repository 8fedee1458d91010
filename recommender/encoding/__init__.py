"""From texts to vectors: which texts are embedded, by which model, in which batches."""
