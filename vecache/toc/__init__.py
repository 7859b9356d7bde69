"""One table of contents: from JSON to columns, layouts, fingerprints and files with chunks."""
