"""What starts, keeps and shows the local clouds: the daemon and its commands, the sandbox, what is installed beforehand."""
