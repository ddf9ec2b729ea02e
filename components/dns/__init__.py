"""The DNS providers: the records at each place of theirs, and what their name servers answer."""
