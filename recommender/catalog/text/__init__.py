"""What is read from a text without a model: terms, their overlap, sketches that find near copies."""
