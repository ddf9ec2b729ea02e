"""The clouds that have machines: what each lists, drains, stops and ends. Another cloud: docs/another-cloud.md."""
