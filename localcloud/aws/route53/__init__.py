"""Route53 by itself (not moto's, whose batches are not atomic and whose deletes match anything)."""

from localcloud.aws.route53.api import Route53
from localcloud.aws.route53.pace import HARSH, PRESENT, UNLIMITED, Limits

__all__ = ["HARSH", "PRESENT", "UNLIMITED", "Limits", "Route53"]
