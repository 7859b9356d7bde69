"""A whole image against a layer set: what a pull will do, and the least it could do."""
