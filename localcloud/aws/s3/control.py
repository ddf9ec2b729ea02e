"""S3 Control's tags of buckets, by which the AWS provider reads and writes them since its version 6.23.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_ListTagsForResource.html , API_control_TagResource.html ,
https://github.com/hashicorp/terraform-provider-aws/pull/45251
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree

from localcloud.aws.s3 import documents
from localcloud.aws.wire import AwsError, Call, Reply, xml

NAMESPACE = "http://awss3control.amazonaws.com/doc/2018-08-20/"
_PATH = re.compile(r"/v20180820/tags/(arn:aws:s3:[a-z0-9-]*:\d*:(?:bucket/)?(?P<bucket>[a-z0-9.-]+))")
ACTIONS = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}


def bucket_of(call: Call, account: str) -> str:
    """Return the bucket of a request about a bucket's tags; empty if it is not for S3 Control. Raises AwsError if it refuses."""
    if not call.path.startswith("/v20180820/"):
        return ""
    found = _PATH.fullmatch(unquote(call.path))
    if found is None or call.method not in ACTIONS:
        raise AwsError("NotImplemented", "The local s3 control emulates the tags of buckets only.", 400)
    if call.headers.get("x-amz-account-id", account) != account:
        raise AwsError("AccessDenied", "Access Denied", 403)
    return found["bucket"]


def answered(call: Call, tags: dict[str, str]) -> tuple[Reply, dict[str, str]]:
    """Return the answer, and the tags of the bucket afterwards."""
    if call.method == "GET":
        inner = "".join(documents.element("Tag", documents.texts(Key=key, Value=each)) for key, each in tags.items())
        body = f'<ListTagsForResourceResult xmlns="{NAMESPACE}"><Tags>{inner}</Tags></ListTagsForResourceResult>'
        return Reply(body=xml(body), content_type="application/xml"), tags
    if call.method == "POST":
        given: ElementTree.Element = documents.read(call.body, "TagResourceRequest")
        tags = {**tags, **dict(documents.tags_of(given))}
        documents.check_tags(tuple(tags.items()), 50)
    else:
        gone = {value for key, value in parse_qsl(call.query) if key == "tagKeys"}
        tags = {key: each for key, each in tags.items() if key not in gone}
    return Reply(status=204), tags
