"""What kept results say: tables, plots, comparisons of two runs, and bounds that no run may cross."""
