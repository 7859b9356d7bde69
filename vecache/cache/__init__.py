"""One cache file: its format, how it is read, validated and built."""
