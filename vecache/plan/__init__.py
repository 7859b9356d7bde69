"""Plan the pull of an image: what a store gives, what is fetched, and the least possible."""
