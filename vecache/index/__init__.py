"""All layers at once: one key column, one look-up, one refresh."""
