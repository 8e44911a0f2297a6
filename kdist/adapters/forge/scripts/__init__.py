"""Scripts that the web UI loads."""
