"""What has run, what is stale and why, and what it would cost to bring up to date."""
