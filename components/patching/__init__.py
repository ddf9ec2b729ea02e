"""Upgrade and reboot the machines of a fleet, batch by batch, each out of DNS meanwhile (`rollcall patch`)."""
