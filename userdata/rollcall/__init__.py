"""Rollcall on a machine: the agent that registers it in DNS, and the client that finds services there."""
