"""What starts, keeps and shows the local clouds: the daemon and its commands, the rehearsal, what is installed beforehand."""
