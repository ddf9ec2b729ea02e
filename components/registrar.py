"""Registrar: what a machine may change in DNS, and how it comes by the right to.

In Cloudflare a token for DNS edits in the one zone (Cloudflare scopes no token below a zone). EC2 machines read it from an
SSM SecureString with their instance role; Joyent machines have it in their metadata. It is in no userdata.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_cloudflare as cloudflare

_ZONE_RESOURCE = "com.cloudflare.api.account.zone"
_ASSUME = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@dataclass(frozen=True, kw_only=True)
class SiteTokenArgs:
    """`zone_id` as Site gives it; `given` is a token made elsewhere, used instead of making one."""

    zone_id: pulumi.Input[str]
    given: pulumi.Output[str] | None = None


class SiteToken(pulumi.ComponentResource):
    """A Cloudflare token that may edit DNS records of one zone and do nothing else. `value` is a secret."""

    value: pulumi.Output[str]

    def __init__(self, name: str, args: SiteTokenArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:SiteToken", name, None, opts)
        self.made: list[pulumi.Resource] = []
        self.value = args.given if args.given is not None else self._make(name, args)
        self.register_outputs({})

    def _make(self, name: str, args: SiteTokenArgs) -> pulumi.Output[str]:
        groups = cloudflare.get_api_token_permission_groups_list_output(
            name="DNS Write", scope=_ZONE_RESOURCE, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        token = cloudflare.ApiToken(
            name,
            name=f"rollcall {pulumi.get_stack()} machines",
            policies=[
                {
                    "effect": "allow",
                    "permission_groups": [{"id": groups.results.apply(lambda found: str(found[0].id))}],
                    "resources": pulumi.Output.from_input(args.zone_id).apply(
                        lambda zone: json.dumps({f"{_ZONE_RESOURCE}.{zone}": "*"})
                    ),
                }
            ],
            opts=pulumi.ResourceOptions(parent=self, additional_secret_outputs=["value"]),
        )
        self.made.append(token)
        return pulumi.Output.secret(token.value)


@dataclass(frozen=True, kw_only=True)
class Ec2RegistrarArgs:
    """`secrets` are the values that machines of this registrar may read, by a short name."""

    secrets: dict[str, pulumi.Output[str]]


class Ec2Registrar(pulumi.ComponentResource):
    """Role and instance profile of the stack's EC2 machines, and the SSM parameters that they may read.

    `profile` is the profile's name; `parameters` maps each secret's short name to its parameter's name; `all_made` is what
    must outlive every machine.
    """

    profile: pulumi.Output[str]
    parameters: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: Ec2RegistrarArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:Ec2Registrar", name, None, opts)
        mine = pulumi.ResourceOptions(parent=self)
        stack = pulumi.get_stack()
        parameters = {
            short: aws.ssm.Parameter(
                f"{name}-{short}", name=f"/rollcall/{stack}/{short}", type="SecureString", value=value, opts=mine
            )
            for short, value in args.secrets.items()
        }
        role = aws.iam.Role(
            f"{name}-role",
            description=f"Machines of Rollcall's stack {stack}",
            assume_role_policy=json.dumps(_ASSUME),
            opts=mine,
        )
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=role.name,
            policy=pulumi.Output.all(*(parameter.arn for parameter in parameters.values())).apply(read_policy),
            opts=mine,
        )
        profile = aws.iam.InstanceProfile(f"{name}-profile", role=role.name, opts=mine)
        self.profile = profile.name
        self.parameters = {short: parameter.name for short, parameter in parameters.items()}
        self.all_made: list[pulumi.Resource] = [*parameters.values(), role, policy, profile]
        self.register_outputs({"profile": self.profile})


def read_policy(parameters: list[str]) -> str:
    """The policy, as JSON, that lets a machine read exactly the SSM parameters with these ARNs."""
    statement = {
        "Sid": "ReadOwnSecrets",
        "Effect": "Allow",
        "Action": "ssm:GetParameter",
        "Resource": sorted(parameters),
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, sort_keys=True)
