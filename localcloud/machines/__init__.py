"""The machines of the local clouds: the interface to a hypervisor, the one that boots them, and their image."""
