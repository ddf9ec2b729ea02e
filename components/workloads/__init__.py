"""The operator's workloads: their definitions and files, packed into releases."""
