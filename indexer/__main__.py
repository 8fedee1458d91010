"""`python -m indexer` is `related-news`."""

from indexer.cli import main

main()
