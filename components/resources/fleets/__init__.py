"""The fleets of machines: what the fleets of all clouds share, one component for each cloud, and their roll calls."""
