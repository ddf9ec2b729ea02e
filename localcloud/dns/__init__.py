"""The name servers and the resolver of the local clouds."""
