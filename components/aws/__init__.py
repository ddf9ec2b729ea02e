"""The operator's own access to AWS: the keys `aws:…` of the configuration, boto3's clients by them, and what AWS refused."""
