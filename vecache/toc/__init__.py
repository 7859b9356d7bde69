"""One table of contents: JSON to columns, layouts, fingerprints, merged files."""
