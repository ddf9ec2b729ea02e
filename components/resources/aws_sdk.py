"""Give the program the few names of AWS's SDK that it uses, by the package that they are in: `aws.ec2.Instance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulumi_aws import GetCallerIdentityResult as GetCallerIdentityResult
from pulumi_aws import Provider as Provider
from pulumi_aws import ProviderArgs as ProviderArgs
from pulumi_aws import config as config
from pulumi_aws import get_caller_identity as get_caller_identity

from components.resources.sdk_parts import Part

if TYPE_CHECKING:
    from pulumi_aws import ec2 as ec2
    from pulumi_aws import ec2transitgateway as ec2transitgateway
    from pulumi_aws import iam as iam
    from pulumi_aws import route53 as route53
    from pulumi_aws import s3 as s3
    from pulumi_aws import ssm as ssm
else:
    ec2 = Part(
        "pulumi_aws.ec2",
        {
            "Eip": "eip",
            "EipAssociation": "eip_association",
            "Instance": "instance",
            "NetworkInterface": "network_interface",
            "PlacementGroup": "placement_group",
            "SecurityGroup": "security_group",
            "get_instance_type_offerings_output": "get_instance_type_offerings",
            "get_subnets_output": "get_subnets",
            "get_vpc_output": "get_vpc",
        },
    )
    ec2transitgateway = Part("pulumi_aws.ec2transitgateway", {"InstanceState": "instance_state"})
    iam = Part(
        "pulumi_aws.iam",
        {
            "AccessKey": "access_key",
            "InstanceProfile": "instance_profile",
            "Role": "role",
            "RolePolicy": "role_policy",
            "RolePolicyAttachment": "role_policy_attachment",
            "User": "user",
            "UserPolicy": "user_policy",
        },
    )
    route53 = Part("pulumi_aws.route53", {"Record": "record", "Zone": "zone", "get_zone_output": "get_zone"})
    s3 = Part(
        "pulumi_aws.s3",
        {
            "Bucket": "bucket",
            "BucketLifecycleConfiguration": "bucket_lifecycle_configuration",
            "BucketObjectv2": "bucket_objectv2",
            "BucketPolicy": "bucket_policy",
            "BucketPublicAccessBlock": "bucket_public_access_block",
            "BucketServerSideEncryptionConfiguration": "bucket_server_side_encryption_configuration",
            "BucketVersioning": "bucket_versioning",
        },
    )
    ssm = Part("pulumi_aws.ssm", {"Parameter": "parameter", "get_parameter_output": "get_parameter"})
