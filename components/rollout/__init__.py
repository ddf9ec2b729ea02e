"""Roll releases through the machines of a fleet that run already, batch by batch (docs/decisions/0022)."""
