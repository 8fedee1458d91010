"""The command line `related-news`: commands, a client of the running service, and what they print."""
