"""Ratings of films: one per user and film, their sums, and what the catalogue says of the films."""
