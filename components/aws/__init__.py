"""The operator's access to AWS: the keys `aws:…` of the configuration, boto3's clients made from them, and errors of AWS."""
