"""What is checked before anything is created: credentials, quotas, zones, and what is there already."""
