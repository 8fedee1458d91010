"""The store of articles and changes, the source of truth. The only package that imports SQLite."""
