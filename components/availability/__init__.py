"""The availability zones of EC2 machines: each is created in a zone that has capacity (docs/decisions/0029)."""
