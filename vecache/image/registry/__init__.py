"""Images in a registry: HTTP with retries, logins, and single ranges of blobs."""
