"""Where images come from, each giving the TOCs of its layers."""
