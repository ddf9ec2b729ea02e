"""The local AWS: EC2, IAM, STS, SSM and Route53 of one account in two regions, as strict as the real ones.

moto keeps EC2's, IAM's and SSM's objects; identity, authorization, power, metadata and Route53 are this package's own.
"""

from localcloud.aws.app import Aws

__all__ = ["Aws"]
