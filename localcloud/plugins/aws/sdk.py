"""boto3's session, which has read each service's model already in copies of a prepared process (plugins/preloaded.py)."""

from __future__ import annotations

import functools
import threading
from typing import Any

SERVICES = ("ec2", "iam", "route53", "s3", "ssm", "sts")
# A session may be asked for one client at a time.
# https://docs.aws.amazon.com/boto3/latest/guide/session.html#multithreading-or-multiprocessing-with-sessions
_lock = threading.Lock()


def client(service: str, **given: Any) -> Any:
    """Make a client as `boto3.client` does. Raises botocore's errors."""
    with _lock:
        return _session().client(service, **given)


def preload() -> None:
    """Read the models of SERVICES, and have a session that has read nothing else: its environment is that of the copy."""
    made = _new_session()
    for service in SERVICES:
        keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
        read_pages(made.client(service, region_name="us-east-1", **keys))
    _session()


def read_pages(made: Any) -> None:
    """Have the model of a client's paginators read, which is otherwise read at the first one."""
    made.can_paginate(next(iter(made.meta.method_to_api_mapping)))


@functools.cache
def _session() -> Any:
    return _new_session()


def _new_session() -> Any:
    import boto3
    import botocore.session

    made = botocore.session.Session()
    made.register_component("data_loader", _loader())
    return boto3.session.Session(botocore_session=made)


@functools.cache
def _loader() -> Any:
    from botocore.loaders import create_loader

    return create_loader()
