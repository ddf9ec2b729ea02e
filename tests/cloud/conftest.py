"""What tests of the local clouds share."""

from __future__ import annotations

import functools

import botocore.session

# A session of boto3 reads the descriptions of services itself: for a client of EC2 half a second, and a process of the tests makes
# dozens of sessions. The files do not change.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
