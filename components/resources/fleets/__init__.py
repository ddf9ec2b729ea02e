"""The fleets of machines: what those of all clouds share, one component for each cloud, and their roll calls."""
