"""What the service knows about the archive: articles, store, snapshot and live view."""
