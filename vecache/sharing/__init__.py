"""Layers against layers: what they share, what covers an image, what can go."""
