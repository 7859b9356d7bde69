"""Images in a registry: HTTP that retries, logins, and one range of a blob at a time."""
