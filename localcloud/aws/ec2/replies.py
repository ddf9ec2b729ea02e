"""EC2's replies that moto does not make."""

from __future__ import annotations

from localcloud.aws.wire import AwsError, Call, Reply, request_id, xml

_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


def done(call: Call, content: str) -> Reply:
    """Return the reply to a request, with this content."""
    name = f"{call.action}Response"
    return Reply(body=xml(f'<{name} xmlns="{_NAMESPACE}"><requestId>{request_id()}</requestId>{content}</{name}>'))


def refuse_dry_run(call: Call) -> None:
    """Raise EC2's answer to a request that only asks whether it would succeed."""
    if call.get("DryRun") == "true":
        raise AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
