"""Keeps the search documents up to date from events, and answers searches."""
