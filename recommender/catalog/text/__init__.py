"""Text analysis without a model: terms, their overlap, sketches that find near copies."""
