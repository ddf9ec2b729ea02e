"""Which actions on which resources a request to EC2, IAM, SSM or STS takes. Route53's are with its routes.

https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

from collections.abc import Callable

from localcloud.aws.authorization import Need
from localcloud.aws.policy import Value
from localcloud.aws.wire import Call

TagsOf = Callable[[str], dict[str, str]]
_ARN_TYPES = {
    "i": "instance",
    "sg": "security-group",
    "subnet": "subnet",
    "vpc": "vpc",
    "vol": "volume",
    "eni": "network-interface",
    "key": "key-pair",
    "ami": "image",
    "sgr": "security-group-rule",
    "eipalloc": "elastic-ip",
    "rtb": "route-table",
    "igw": "internet-gateway",
    "nat": "natgateway",
}
_IAM_RESOURCES = (
    ("RoleName", "role"),
    ("UserName", "user"),
    ("InstanceProfileName", "instance-profile"),
    ("GroupName", "group"),
)
_IDS = ("InstanceId", "GroupId", "VolumeId", "SubnetId", "AllocationId", "NetworkInterfaceId")
_SSM_LISTS = ("DescribeParameters",)


def needs_of(call: Call, *, account: str, region: str, principal_name: str, tags_of: TagsOf) -> list[Need]:
    """`tags_of` gives the tags of an EC2 resource by its id (none for unknown ones)."""
    if call.service == "ec2":
        return _ec2(call, account, region, tags_of)
    if call.service == "ssm":
        return _ssm(call, account, region)
    if call.service == "servicequotas":
        return [Need(action=f"servicequotas:{call.action}")]
    if call.service == "iam":
        return [_iam(call, account, principal_name)]
    if call.service == "sts" and call.action == "AssumeRole":
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html and id_credentials_temp_control-access_monitor.html
        tagged = ("TagSession",) if call.groups("Tags.member") else ()
        named = ("SetSourceIdentity",) if call.get("SourceIdentity") else ()
        actions = ("AssumeRole", *tagged, *named)
        return [Need(action=f"sts:{each}", resource=call.get("RoleArn") or "*") for each in actions]
    # GetCallerIdentity takes no permission.
    return []


def _ec2(call: Call, account: str, region: str, tags_of: TagsOf) -> list[Need]:
    action = f"ec2:{call.action}"
    if call.action.startswith(("Describe", "Get")):
        return [Need(action=action)]
    if call.action == "RunInstances":
        return _launch(call, account, region)

    def arn(resource: str) -> str:
        kind = _ARN_TYPES.get(resource.rpartition("-")[0], resource.rpartition("-")[0])
        return f"arn:aws:ec2:{region}:{account}:{kind}/{resource}"

    ids = [*call.members("InstanceId"), *call.members("ResourceId")]
    ids += [value for name in _IDS if (value := call.get(name))]
    request_tags = _request_tags(call.groups("Tag")) if call.action in ("CreateTags", "DeleteTags") else ()
    found = []
    for each in dict.fromkeys(ids):
        tags = tags_of(each)
        resource_tags: list[tuple[str, Value]] = [(f"aws:ResourceTag/{key}", value) for key, value in tags.items()]
        resource_tags += [(f"ec2:ResourceTag/{key}", value) for key, value in tags.items()]
        found.append(Need(action=action, resource=arn(each), context=(*resource_tags, *request_tags)))
    return found or [Need(action=action)]


def _launch(call: Call, account: str, region: str) -> list[Need]:
    specified = call.groups("TagSpecification")
    tags = [_request_tags(_tags_within(each)) for each in specified.values()]
    request_tags = tags[0] if tags else ()
    mine = f"arn:aws:ec2:{region}:{account}"
    resources = [f"{mine}:instance/*", f"{mine}:network-interface/*", f"{mine}:volume/*"]
    resources.append(f"arn:aws:ec2:{region}::image/{call.get('ImageId')}")
    resources += [f"{mine}:security-group/{each}" for each in call.members("SecurityGroupId")]
    resources += [f"{mine}:subnet/{value}" for value in [call.get("SubnetId")] if value]
    resources += [f"{mine}:key-pair/{value}" for value in [call.get("KeyName")] if value]
    found = [Need(action="ec2:RunInstances", resource=each, context=request_tags) for each in resources]
    for each, tags_of_kind in zip(specified.values(), tags, strict=True):
        made: tuple[tuple[str, Value], ...] = (("ec2:CreateAction", "RunInstances"), *tags_of_kind)
        resource = f"{mine}:{each.get('ResourceType', 'instance')}/*"
        found.append(Need(action="ec2:CreateTags", resource=resource, context=made))
    if call.get("IamInstanceProfile.Name") or call.get("IamInstanceProfile.Arn"):
        service: tuple[tuple[str, Value], ...] = (("iam:PassedToService", "ec2.amazonaws.com"),)
        found.append(Need(action="iam:PassRole", resource=f"arn:aws:iam::{account}:role/*", context=service))
    return found


def _tags_within(fields: dict[str, str]) -> dict[int, dict[str, str]]:
    """`Tag.1.Key=…` of one tag specification, by number."""
    found: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        word, _, rest = key.partition(".")
        number, _, part = rest.partition(".")
        if word == "Tag" and number.isdecimal():
            found.setdefault(int(number), {})[part] = value
    return found


def _request_tags(tags: dict[int, dict[str, str]]) -> tuple[tuple[str, Value], ...]:
    keys = {each.get("Key", ""): each.get("Value", "") for each in tags.values()}
    return (*((f"aws:RequestTag/{key}", value) for key, value in keys.items()), ("aws:TagKeys", tuple(keys)))


def _ssm(call: Call, account: str, region: str) -> list[Need]:
    action = f"ssm:{call.action}"
    parameters = call.json()
    if call.action == "SendCommand":
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html
        document = str(parameters.get("DocumentName", ""))
        owner = "" if document.startswith("AWS-") else account
        instances = [f"arn:aws:ec2:{region}:{account}:instance/{each}" for each in parameters.get("InstanceIds") or ()]
        return [
            Need(action=action, resource=each)
            for each in (f"arn:aws:ssm:{region}:{owner}:document/{document}", *instances)
        ]
    names = parameters.get("Names") or [
        parameters[key] for key in ("Name", "Path", "ResourceId") if parameters.get(key)
    ]
    if not names or call.action in _SSM_LISTS:
        return [Need(action=action, resource=f"arn:aws:ssm:{region}:{account}:*")]
    return [Need(action=action, resource=parameter_arn(str(name), account, region)) for name in names]


def parameter_arn(name: str, account: str, region: str) -> str:
    """A parameter's ARN. A name's first slash is the one after `parameter`; public parameters belong to no account."""
    if name.startswith("arn:"):
        return name
    owner = "" if name.startswith("/aws/service/") else account
    return f"arn:aws:ssm:{region}:{owner}:parameter/{name.partition(':')[0].lstrip('/')}"


def _iam(call: Call, account: str, principal_name: str) -> Need:
    action = f"iam:{call.action}"
    if arn := call.get("PolicyArn") or call.get("PolicySourceArn"):
        return Need(action=action, resource=arn)
    for field, kind in _IAM_RESOURCES:
        if name := call.get(field):
            return Need(action=action, resource=f"arn:aws:iam::{account}:{kind}/{name}")
    if call.action in ("GetUser", "ListAccessKeys", "CreateAccessKey"):
        return Need(action=action, resource=f"arn:aws:iam::{account}:user/{principal_name}")
    return Need(action=action)
