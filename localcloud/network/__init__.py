"""The network of the local clouds: the namespace, its packet filter, HTTP servers, the edge and the way in from the host."""
