"""Weights: published keys to ours and back, and files that are checked before they are believed."""
