"""One cache file: its format, read, checked, asked and built."""
