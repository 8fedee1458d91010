"""What one worker holds: the live archive, its place in the roster, cached plans, the feed of affected pages."""
