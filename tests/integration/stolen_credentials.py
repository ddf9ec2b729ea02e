"""Requests of an attacker who uses a machine's Cloudflare token, or the credentials of its instance role, from another place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import requests
from botocore.exceptions import ClientError

from tests.integration.deployed import Deployed

_GROUP = "4755a26eedb94da69e1066d98aa820be"  # DNS Write
_FROM_METADATA = """
import json, requests
meta = "http://169.254.169.254/latest/"
token = requests.put(meta + "api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}, timeout=5).text
read = lambda path: requests.get(meta + "meta-data/" + path, headers={"X-aws-ec2-metadata-token": token}, timeout=5).text
home = "iam/security-credentials/"
print(read(home + read(home).strip()))
"""


def role_credentials(deployed: Deployed, instance: str) -> dict[str, str]:
    """What the metadata of an EC2 instance gives to whoever is root there."""
    found: dict[str, str] = json.loads(deployed.inside(instance, "python3", "-c", _FROM_METADATA))
    return found


def tried_at_cloudflare(url: str, token: str, zone: str, others: str) -> dict[str, int]:
    """The status of each request that the token makes; what it made in its own zone is taken away again."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {token}"
    statuses: dict[str, int] = {}

    def ask(what: str, method: str, path: str, **sent: Any) -> Any:
        reply = session.request(method, url + path, timeout=10, **sent)
        statuses[what] = reply.status_code
        return (reply.json().get("result") or {}) if reply.ok else {}

    record = {"type": "A", "name": "stolen.scalability.expert", "content": "198.51.100.249", "ttl": 60}
    policy = {"effect": "allow", "permission_groups": [{"id": _GROUP}]}
    policies = [{**policy, "resources": {f"com.cloudflare.api.account.zone.{others}": "*"}}]
    own = ask("own token's id", "GET", "/user/tokens/verify").get("id")
    mine, theirs = f"/zones/{zone}", f"/zones/{others}"
    made = ask("own zone: create", "POST", f"{mine}/dns_records", json=record).get("id")
    ask("own zone: change", "PATCH", f"{mine}/dns_records/{made}", json={"ttl": 120})
    ask("own zone: delete", "DELETE", f"{mine}/dns_records/{made}")
    ask("own zone: list", "GET", f"{mine}/dns_records")
    ask("other zone: list", "GET", f"{theirs}/dns_records")
    ask("other zone: create", "POST", f"{theirs}/dns_records", json={**record, "name": "stolen.other.example"})
    ask("zone: read", "GET", mine)
    ask("zone: pause", "PATCH", mine, json={"paused": True})
    ask("zone: delete", "DELETE", mine)
    ask("zone: make", "POST", "/zones", json={"name": "stolen.example"})
    ask("settings: read", "GET", f"{mine}/settings")
    ask("settings: change", "PATCH", f"{mine}/settings/security_level", json={"value": "off"})
    ask("tokens: list", "GET", "/user/tokens")
    ask("tokens: make", "POST", "/user/tokens", json={"name": "stolen", "policies": policies})
    ask("tokens: widen itself", "PUT", f"/user/tokens/{own}", json={"name": "stolen", "policies": policies})
    ask("tokens: delete itself", "DELETE", f"/user/tokens/{own}")
    ask("certificates: make", "POST", "/certificates", json={"hostnames": ["scalability.expert"], "csr": "x"})
    ask("certificates: list", "GET", "/certificates", params={"zone_id": zone})
    ask("user: read", "GET", "/user")
    session.close()
    return statuses


def tried_at_aws(
    deployed: Deployed, stolen: dict[str, str], *, fleet: str, other: str, instance: str, role: str, zones: list[str]
) -> dict[str, str]:
    """`yes`, or the error's code, for each thing that the credentials are used for, from elsewhere: secrets of the `fleet` that
    they are of and of an `other`, `instance` and `role` of the first, and its own and another of the hosted `zones`."""
    given = {
        "AWS_ACCESS_KEY_ID": stolen["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": stolen["SecretAccessKey"],
        "AWS_SESSION_TOKEN": stolen["Token"],
    }
    ssm, ec2, iam, route53, sts = (deployed.aws(name, given) for name in ("ssm", "ec2", "iam", "route53", "sts"))
    s3 = deployed.aws("s3", given)
    (bucket,) = [each["Name"] for each in deployed.aws("s3").list_buckets()["Buckets"]]
    (stored,) = deployed.aws("s3").list_objects_v2(Bucket=bucket)["Contents"]
    image = deployed.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["ImageId"]
    record = {
        "Name": "stolen.unilans.example",
        "Type": "A",
        "TTL": 60,
        "ResourceRecords": [{"Value": "198.51.100.249"}],
    }
    changes = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    mark = [{"Key": "rollcall-drain", "Value": "true"}]
    tried: dict[str, Callable[[], Any]] = {
        "own token": lambda: ssm.get_parameter(Name=f"{fleet}/token-scalability_expert", WithDecryption=True),
        "own certificate": lambda: ssm.get_parameter(Name=f"{fleet}/origin-www", WithDecryption=True),
        "own hosted zone": lambda: route53.list_resource_record_sets(HostedZoneId=zones[0]),
        "other's token": lambda: ssm.get_parameter(Name=f"{other}/token-scalability_expert", WithDecryption=True),
        "other's certificate": lambda: ssm.get_parameter(Name=f"{other}/origin-www", WithDecryption=True),
        "several at once": lambda: ssm.get_parameters(Names=[f"{fleet}/origin-www"], WithDecryption=True),
        "all of a path": lambda: ssm.get_parameters_by_path(Path="/rollcall", Recursive=True, WithDecryption=True),
        "list parameters": lambda: ssm.describe_parameters(),
        "write a parameter": lambda: ssm.put_parameter(
            Name=f"{fleet}/origin-www", Value="x", Type="SecureString", Overwrite=True
        ),
        "own release": lambda: s3.get_object(Bucket=bucket, Key=stored["Key"]),
        "replace the release": lambda: s3.put_object(Bucket=bucket, Key=stored["Key"], Body=b"stolen"),
        "delete the release": lambda: s3.delete_object(Bucket=bucket, Key=stored["Key"]),
        "list releases": lambda: s3.list_objects_v2(Bucket=bucket),
        "buckets": lambda: s3.list_buckets(),
        "open the bucket": lambda: s3.delete_public_access_block(Bucket=bucket),
        "describe": lambda: ec2.describe_instances(),
        "tag itself": lambda: ec2.create_tags(Resources=[instance], Tags=mark),
        "start": lambda: ec2.start_instances(InstanceIds=[instance]),
        "stop": lambda: ec2.stop_instances(InstanceIds=[instance]),
        "terminate": lambda: ec2.terminate_instances(InstanceIds=[instance]),
        "launch": lambda: ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1),
        "its role": lambda: iam.get_role(RoleName=role),
        "widen its role": lambda: iam.put_role_policy(RoleName=role, PolicyName="more", PolicyDocument="{}"),
        "users": lambda: iam.list_users(),
        "a key": lambda: iam.create_access_key(UserName="operator"),
        "assume a role": lambda: sts.assume_role(RoleArn=_arn(deployed, role), RoleSessionName="stolen"),
        "hosted zones": lambda: route53.list_hosted_zones(),
        "other hosted zone": lambda: route53.list_resource_record_sets(HostedZoneId=zones[1]),
        "change other hosted zone": lambda: route53.change_resource_record_sets(
            HostedZoneId=zones[1], ChangeBatch=changes
        ),
        "make a hosted zone": lambda: route53.create_hosted_zone(Name="stolen.example", CallerReference="stolen"),
    }
    return {what: _status_of(act) for what, act in tried.items()}


def _arn(deployed: Deployed, role: str) -> str:
    return str(deployed.aws("iam").get_role(RoleName=role)["Role"]["Arn"])


def _status_of(act: Callable[[], Any]) -> str:
    try:
        act()
    except ClientError as refused:
        return str(refused.response["Error"]["Code"])
    return "yes"
