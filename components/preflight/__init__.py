"""Check before anything is created: credentials, quotas, zones, and existing resources."""
