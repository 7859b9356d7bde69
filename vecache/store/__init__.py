"""A containers-storage graph root on disk: config, records, locks, big data."""
