"""boto3 sessions that read each service's model once in a process, and in the copies that are made of it (plugins/preloaded.py)."""

from __future__ import annotations

import functools
from typing import Any

SERVICES = ("ec2", "iam", "route53", "s3", "ssm", "sts")


@functools.cache
def _loader() -> Any:
    from botocore.loaders import create_loader

    return create_loader()


def session() -> Any:
    """Return a session that knows what another one has read."""
    import boto3
    import botocore.session

    made = botocore.session.Session()
    made.register_component("data_loader", _loader())
    return boto3.session.Session(botocore_session=made)


def preload() -> None:
    """Read the models of SERVICES."""
    made = session()
    for service in SERVICES:
        made.client(service, region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
