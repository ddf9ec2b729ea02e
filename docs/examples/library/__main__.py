"""A shop whose machines are in a VPC of the company, with a security group and a role of this program."""

import json

import pulumi
import pulumi_aws as aws

import rollcall_pulumi as rollcall

vpc = aws.ec2.get_vpc_output(id=pulumi.Config().require("vpc"))
subnets = aws.ec2.get_subnets_output(filters=[{"name": "vpc-id", "values": [vpc.id]}])

# The monitoring of the company reads metrics of every machine.
monitored = aws.ec2.SecurityGroup(
    "monitored",
    vpc_id=vpc.id,
    description="metrics for the monitoring",
    ingress=[{"protocol": "tcp", "from_port": 9100, "to_port": 9100, "cidr_blocks": [vpc.cidr_block]}],
)

# The role of the machines. Rollcall adds an inline policy to it.
assumed_by_ec2 = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}],
}
role = aws.iam.Role("web", assume_role_policy=json.dumps(assumed_by_ec2))
profile = aws.iam.InstanceProfile("web", role=role.name)

shop = rollcall.Deployment(
    "rollcall",
    rollcall.DeploymentArgs(
        workloads={"www": {"files": "site", "nginx": {"root": "."}}},
        fleets={
            "web": {
                "cloud": "aws",
                "count": 2,
                "size": "t3.micro",
                "image": "debian-12",
                "runs": ["www"],
                "joins": ["site/www"],
            }
        },
        inputs={
            "web": rollcall.FleetInputs(
                vpc=vpc.id,
                subnets=subnets.ids,
                security_groups=[monitored.id],
                role=role,
                instance_profile=profile.name,
            )
        },
    ),
)

pulumi.export("addresses", shop.addresses)
