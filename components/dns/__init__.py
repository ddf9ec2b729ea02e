"""The DNS providers: the records at each of their places, and the answers of their name servers."""
