"""Route53, not by moto: moto's batches are not atomic, and its deletes match any record set."""

from localcloud.aws.route53.api import Route53
from localcloud.aws.route53.pace import HARSH, PRESENT, UNLIMITED, Limits

__all__ = ["HARSH", "PRESENT", "UNLIMITED", "Limits", "Route53"]
