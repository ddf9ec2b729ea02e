"""What Pulumi creates: the site, the service directory, credentials, firewalls, releases and the fleets."""
