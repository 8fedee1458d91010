"""Relevance measured on editors' own links: metrics, baselines, fitting."""
