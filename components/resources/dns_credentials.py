"""Create the credentials with which machines change DNS, and limit what they may change.

All machines of a stack have one key, with which they ask each other whether they run
(components/resources/probe_key.py).

In Cloudflare, machines have a token for DNS edits in each zone of a site that they join (Cloudflare cannot limit a token to less than a
zone). EC2 machines read it from an SSM SecureString with their instance role. Joyent machines have it in their
metadata. No user data contains it.

In Route53, machines have a policy for the hosts below Rollcall's label and for the SRV sets of the services that a
fleet joins. On EC2 it is a policy of the instance role. Elsewhere it is a policy of an IAM user, and the machines have
a key of this user in their metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.compute.ec2 import role_description
from components.config.machine_keys import PoliciesSettings
from components.resources import aws_sdk as aws
from components.resources import cloudflare_sdk
from components.resources.tags import deployment
from rollcall.route53 import LABEL

# The names are fixed. An `up` that is interrupted may write a policy that its state does not contain; the next `up`
# writes the same one. With random names there would be two, and IAM deletes no role or user that still has a policy.
POLICY = "rollcall"
_ZONE_RESOURCE = "com.cloudflare.api.account.zone"
_MAY = "DNS Write"
# https://developers.cloudflare.com/api/resources/user/subresources/tokens/methods/create/
_LONGEST_TOKEN_NAME = 120
_ASSUME = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@dataclass(frozen=True, kw_only=True)
class SiteTokenArgs:
    """The inputs of a SiteToken.

    `zone` is the zone's name, and `zone_id` what SiteZone returns. `given` is a token that was made elsewhere; it is
    used and none is made. Another `rotation_trigger` makes another token; machines get it before the old one is
    revoked. `account` is the id of the account that owns the operator's token, and so the machines' token. It is empty
    if a user owns it.
    """

    zone: str
    zone_id: pulumi.Input[str]
    given: pulumi.Output[str] | None = None
    rotation_trigger: str = ""
    account: str = ""


class SiteToken(pulumi.ComponentResource):
    """A Cloudflare token that may edit DNS records of one zone and do nothing else. `value` is a secret."""

    value: pulumi.Output[str]

    def __init__(self, name: str, args: SiteTokenArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:SiteToken", name, None, opts)
        self.made: list[pulumi.Resource] = []
        self.value = args.given if args.given is not None else self._make(name, args)
        self.register_outputs({})

    def _make(self, name: str, args: SiteTokenArgs) -> pulumi.Output[str]:
        invoke_options, own = pulumi.InvokeOutputOptions(parent=self), token_name(deployment(), args.zone)
        renewed = pulumi.ResourceOptions(
            parent=self, additional_secret_outputs=["value"], replacement_trigger=[args.rotation_trigger]
        )
        token: Any
        if args.account:
            found = cloudflare_sdk.get_account_api_token_permission_groups_list_output(
                account_id=args.account, name=_MAY, scope=_ZONE_RESOURCE, opts=invoke_options
            )
            policies = _policies(found.results, args.zone_id)
            token = cloudflare_sdk.AccountToken(
                name, account_id=args.account, name=own, policies=policies, opts=renewed
            )
        else:
            groups = cloudflare_sdk.get_api_token_permission_groups_list_output(
                name=_MAY, scope=_ZONE_RESOURCE, opts=invoke_options
            )
            token = cloudflare_sdk.ApiToken(
                name, name=own, policies=_policies(groups.results, args.zone_id), opts=renewed
            )
        self.made.append(token)
        return pulumi.Output.secret(token.value)


def _policies(groups: pulumi.Output[Any], zone: pulumi.Input[str]) -> list[Any]:
    """Return a policy that allows DNS edits in one zone."""
    resources = pulumi.Output.from_input(zone).apply(token_resources)
    return [{"effect": "allow", "permission_groups": [{"id": groups.apply(group_id)}], "resources": resources}]


def token_resources(zone: str) -> str:
    """Return the zone as a policy names it.

    The provider reads back the text that the API answers with, which has no spaces. With spaces, every preview would
    show a change.
    """
    return json.dumps({f"{_ZONE_RESOURCE}.{zone}": "*"}, separators=(",", ":"))


def group_id(found: Sequence[Any]) -> str:
    """Return the permission group with exactly this name. The filter of the API may also find others."""
    return str(next(each.id for each in found if each.name == _MAY))


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The right to join services in one hosted zone: its ARN, its name, and the names of the SRV sets."""

    zone_arn: pulumi.Output[str]
    domain: str
    sets: Sequence[str]

    def statements(self) -> pulumi.Output[list[dict[str, object]]]:
        return self.zone_arn.apply(lambda arn: join_statements(arn, self.domain, self.sets))


@dataclass(frozen=True, kw_only=True)
class InstanceRoleArgs:
    """The inputs of an InstanceRole.

    `secrets` are the values that machines with this role may read, by a short name. `grants` are what they may join.
    `objects` is the ARN of what they may get from the release store, and `claims` are those of what they may also write.
    `reports` is the ARN of the folder in which each machine may write its report, and `views` the same for what its
    resolvers answer. `region` is the region of the machines
    and `provider` its provider, if it is not the stack's region.
    """

    secrets: dict[str, pulumi.Output[str]] = field(default_factory=dict)
    grants: Sequence[Grant] = ()
    objects: pulumi.Input[str] = ""
    claims: Sequence[pulumi.Input[str]] = ()
    reports: pulumi.Input[str] = ""
    views: pulumi.Input[str] = ""
    region: str | None = None
    provider: pulumi.ProviderResource | None = None
    role: aws.iam.Role | None = None
    profile: pulumi.Input[str] | None = None


class InstanceRole(pulumi.ComponentResource):
    """The role and instance profile of a fleet's EC2 machines, and the SSM parameters that they may read, in the machines' region.

    A fleet that moves to another region gets new ones of all of these; the machines that it replaces keep the old ones
    until they are deleted. IAM itself has no region, so the resources of each region have different names.

    `profile` is the profile's name, and `role_id` is the id that IAM gave the role with the ARN `role_arn`. `parameters` maps each
    secret's short name to the name of its parameter. `all_made` is what must exist as long as any machine does.
    """

    profile: pulumi.Output[str]
    role_id: pulumi.Output[str]
    role_arn: pulumi.Output[str]
    parameters: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: InstanceRoleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:InstanceRole", name, None, opts)
        mine = pulumi.ResourceOptions(parent=self)
        stack, fleet = deployment(), name
        name = f"{fleet}-{args.region}" if args.region else fleet
        there = pulumi.ResourceOptions(parent=self, provider=args.provider)
        parameters = {
            short: aws.ssm.Parameter(
                f"{name}-{short}",
                name=f"/rollcall/{stack}/{fleet}/{short}",
                type="SecureString",
                value=value,
                # The path belongs to this stack. A parameter that exists there was left by an `up` that was killed
                # before its state contained it.
                overwrite=True,
                opts=there,
            )
            for short, value in args.secrets.items()
        }
        role = args.role or aws.iam.Role(
            f"{name}-role",
            description=role_description(stack, fleet),
            assume_role_policy=json.dumps(_ASSUME),
            opts=mine,
        )
        arns = [parameter.arn for parameter in parameters.values()]
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            name=POLICY,
            role=role.name,
            policy=_policy(arns, args.grants, args.objects, args.claims, [args.reports, args.views]),
            opts=mine,
        )
        made: list[pulumi.Resource] = [role, policy]
        if args.profile is None:
            profile = aws.iam.InstanceProfile(f"{name}-profile", role=role.name, opts=mine)
            made.append(profile)
        self.profile = profile.name if args.profile is None else pulumi.Output.from_input(args.profile)
        self.role_id, self.role_arn = role.unique_id, role.arn
        self.parameters = {short: parameter.name for short, parameter in parameters.items()}
        self.all_made: list[pulumi.Resource] = [*parameters.values(), *made]
        self.register_outputs({"profile": self.profile})


class WorkloadRole(pulumi.ComponentResource):
    """The role with the operator's policies, for workloads of a fleet with `awsCredentials`. It has no rights of the agent.

    Only the fleet's instance role may assume it. `arn` is its ARN. `all_made` is what must exist as long as any machine does.
    """

    arn: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        policies: PoliciesSettings,
        instance_role: InstanceRole,
        region: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("rollcall:index:WorkloadRole", name, None, opts)
        mine = pulumi.ResourceOptions(parent=self)
        fleet, name = name, f"{name}-{region}" if region else name
        role = aws.iam.Role(
            f"{name}-workloads",
            description=role_description(deployment(), fleet).replace("Machines", "Workloads", 1),
            assume_role_policy=instance_role.role_arn.apply(trust_of),
            opts=mine,
        )
        self.all_made: list[pulumi.Resource] = [role]
        if policies.document:
            self.all_made.append(
                aws.iam.RolePolicy(
                    f"{name}-workloads-policy", name=POLICY, role=role.name, policy=policies.document, opts=mine
                )
            )
        for arn in policies.managed:
            short = hashlib.sha256(arn.encode()).hexdigest()[:8]
            self.all_made.append(
                aws.iam.RolePolicyAttachment(f"{name}-workloads-{short}", role=role.name, policy_arn=arn, opts=mine)
            )
        self.arn = role.arn
        self.register_outputs({"arn": self.arn})


def trust_of(role_arn: str) -> str:
    """Return the trust policy that lets one role assume another one."""
    statement = {"Effect": "Allow", "Principal": {"AWS": role_arn}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, sort_keys=True)


class IamUser(pulumi.ComponentResource):
    """An IAM user with the same limits, for machines that have no instance role.

    `key` is `ACCESS_KEY_ID SECRET`, a secret. Another `rotation_trigger` makes another key. `objects` are the ARNs of the
    releases that the machines fetch from the stack's bucket, and `claims` are those of what they may also write there.
    """

    key: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        grants: Sequence[Grant],
        rotation_trigger: str = "",
        objects: Sequence[pulumi.Input[str]] = (),
        claims: Sequence[pulumi.Input[str]] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("rollcall:index:IamUser", name, None, opts)
        mine = pulumi.ResourceOptions(parent=self)
        user = aws.iam.User(f"{name}-user", path="/rollcall/", opts=mine)
        policy = aws.iam.UserPolicy(
            f"{name}-policy",
            name=POLICY,
            user=user.name,
            policy=_policy([], grants, pulumi.Output.all(*objects) if objects else "", claims),
            opts=mine,
        )
        # A user may have two keys, so the new one exists before the old one is deleted.
        renewed = pulumi.ResourceOptions(parent=self, replacement_trigger=[rotation_trigger])
        key = aws.iam.AccessKey(f"{name}-key", user=user.name, opts=renewed)
        self.key = pulumi.Output.secret(pulumi.Output.concat(key.id, " ", key.secret))
        self.all_made: list[pulumi.Resource] = [user, policy, key]
        self.register_outputs({})


def _policy(
    parameters: Sequence[pulumi.Output[str]],
    grants: Sequence[Grant],
    objects: pulumi.Input[str] | pulumi.Output[list[str]] = "",
    claims: Sequence[pulumi.Input[str]] = (),
    reports: Sequence[pulumi.Input[str]] = (),
) -> pulumi.Output[str]:
    found = pulumi.Output.all(*parameters)
    joins = pulumi.Output.all(*(grant.statements() for grant in grants))
    written = pulumi.Output.all(*claims)
    folders = pulumi.Output.all(*reports)
    return pulumi.Output.all(found, joins, objects, written, folders).apply(lambda all_of: policy_document(*all_of))


def policy_document(
    parameters: list[str],
    joins: Sequence[list[dict[str, object]]],
    objects: str | Sequence[str] = "",
    claims: Sequence[str] = (),
    reports: Sequence[str] = (),
) -> str:
    """Return a policy that allows to read these SSM parameters and S3 objects (ARNs), with all statements of `joins`.

    `claims` are ARNs of objects that it allows to write too. `reports` are the ARNs of the folders of a fleet's reports.
    """
    statements = [
        *read_statements(parameters),
        *get_statements(objects),
        *claim_statements(claims),
        *report_statements(reports),
        *(each for listed in joins for each in listed),
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, sort_keys=True)


def read_statements(parameters: list[str]) -> list[dict[str, object]]:
    """Return statements that let a machine read exactly the SSM parameters with these ARNs."""
    if not parameters:
        return []
    resources = sorted(parameters)
    return [{"Sid": "ReadOwnSecrets", "Effect": "Allow", "Action": "ssm:GetParameter", "Resource": resources}]


def get_statements(objects: str | Sequence[str]) -> list[dict[str, object]]:
    """Return statements that let a machine get the releases with this ARN, or with these, and neither list nor change them."""
    if not objects:
        return []
    resource = objects if isinstance(objects, str) else sorted(objects)
    return [{"Sid": "GetReleases", "Effect": "Allow", "Action": "s3:GetObject", "Resource": resource}]


def claim_statements(claims: Sequence[str]) -> list[dict[str, object]]:
    """Return statements that let a machine write and read the claims with these ARNs (docs/decisions/0016).

    A conditional write needs both: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    if not claims:
        return []
    actions = ["s3:GetObject", "s3:PutObject"]
    return [{"Sid": "ClaimHooks", "Effect": "Allow", "Action": actions, "Resource": sorted(claims)}]


def report_statements(folders: Sequence[str]) -> list[dict[str, object]]:
    """Return statements that let a machine write its own report in each folder with one of these ARNs, and no other one.

    For an instance role, `aws:userid` is the id of the role, a colon and the id of the instance:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#principaltable
    """
    own = [f"{folder}/${{aws:userid}}.json" for folder in folders if folder]
    if not own:
        return []
    resource = own[0] if len(own) == 1 else own
    return [{"Sid": "WriteOwnReport", "Effect": "Allow", "Action": "s3:PutObject", "Resource": resource}]


def join_statements(zone_arn: str, domain: str, sets: Sequence[str]) -> list[dict[str, object]]:
    """Return statements that let a machine read the zone, keep hosts below Rollcall's label, and change the SRV sets with these names.

    There are two statements for changes, since the conditions of a statement apply to every change of a batch. So hosts
    and sets are changed in two requests. Names are compared as Route53 normalises them: lower case, no final dot.
    https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-rrset-conditions.html
    """
    here = {"Effect": "Allow", "Resource": zone_arn}
    hosts = _only("StringLike", [f"*.{LABEL}.{domain.lower()}"], ["A", "AAAA", "TXT"])
    services = _only("StringEquals", sorted({each.lower() for each in sets}), ["SRV"])
    return [
        {"Sid": "ReadZone", "Action": "route53:ListResourceRecordSets", **here},
        {"Sid": "KeepOwnHost", "Action": "route53:ChangeResourceRecordSets", "Condition": hosts, **here},
        {"Sid": "JoinServices", "Action": "route53:ChangeResourceRecordSets", "Condition": services, **here},
    ]


def _only(compare: str, names: list[str], types: list[str]) -> dict[str, dict[str, object]]:
    """Return the condition that a request changes only these names and types.

    `ForAllValues` is also true for a request without the key, so `Null` must require the key.
    """
    prefix = "route53:ChangeResourceRecordSets"
    name, rtype, action = (f"{prefix}{each}" for each in ("NormalizedRecordNames", "RecordTypes", "Actions"))
    found: dict[str, dict[str, object]] = {"ForAllValues:StringEquals": {rtype: types, action: ["CREATE", "DELETE"]}}
    found.setdefault(f"ForAllValues:{compare}", {})[name] = names
    found["Null"] = {name: "false", rtype: "false", action: "false"}
    return found


def token_name(stack: str, zone: str) -> str:
    """Return the name of the token that a stack makes for its machines in a zone. `stack` is the stack's id."""
    return f"rollcall {stack} machines {zone}"[:_LONGEST_TOKEN_NAME]


def is_token_name(name: str, stack: str) -> bool:
    """Return whether `token_name` may have made this name, for any zone."""
    return re.fullmatch(rf"rollcall {re.escape(stack)} machines [a-z0-9.-]+", name) is not None
