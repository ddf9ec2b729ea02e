"""Prints, as JSON, what the program asks the engine for: `python tests/unit/resource_graph.py aws joyent …`, any of CONFIGS.

For each of them its `graph`, the resources, and its `calls`, the functions that were called, each with all that it was ever given.

Each is built in its own process, since pulumi keeps its event loops and its settings for the life of the process. They
are forks of one that has loaded the vendors' SDKs, which takes three times as long as all the rest.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import pkgutil
import re
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks
from pulumi.runtime.settings import set_root_resource

_AMI = "ami-0123456789abcdef0"
_ACCOUNT = "a" * 32


class Cloud(mocks.Mocks):
    """Answers for every provider, and keeps what was asked for."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, list[dict[str, Any]]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        inputs = {key: value for key, value in args.inputs.items() if key != "__provider"}
        # By which provider, where it is not the engine's default one.
        by = f" by {args.provider.split('::')[-2]}" if args.typ.startswith("aws:") and args.provider else ""
        self.made[args.name if args.typ.startswith("rollcall") else f"{args.typ}::{args.name}{by}"] = inputs
        # The names that Pulumi makes, and what the clouds answer with.
        outs = {
            "name": f"{args.name}-1a2b3c4",
            "zoneId": "Z1",
            **inputs,
            "arn": f"arn:{args.name}",
            "publicIp": "198.51.100.10",
            "value": "secret",
            "secret": "hush",
        }
        if args.typ == "aws:iam/role:Role":
            outs["uniqueId"] = "AROAEXAMPLE"
        if args.typ.endswith(":Deregistration"):
            outs["generation"] = "ab12cd"
        if args.typ.endswith(":AddressChoice"):
            outs["allocation"] = f"{args.name}-id"
        if args.typ == "aws:ec2/eip:Eip":
            outs["allocationId"] = f"eipalloc-{args.name}"
        if args.typ.endswith(":Ready"):
            outs["addresses"] = {}
        if args.typ.endswith(":OriginKey"):
            outs.update(private_key="KEY\n", csr="CSR", made=1)
        if args.typ.endswith(":Certificate"):
            outs.update(bundle="BUNDLE", word="1a2b3c4d", until=1790000000)
        if args.typ.endswith(":ProbeKey"):
            outs["value"] = "probes"
        if args.typ.endswith(":OriginCaCertificate"):
            outs.update(certificate="CERTIFICATE", expiresOn="2027-11-23 12:00:00 +0000 UTC")
        return f"{args.name}-id", outs

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        answers: dict[str, dict[str, Any]] = {
            "cloudflare:index/getAccounts:getAccounts": {"results": [{"id": _ACCOUNT}]},
            "cloudflare:index/getZone:getZone": {"id": "z" * 32, "zoneId": "z" * 32},
            "cloudflare:index/getApiTokenPermissionGroupsList:getApiTokenPermissionGroupsList": {
                "results": [{"id": "dns-write", "name": "DNS Write"}]
            },
            "cloudflare:index/getAccountApiTokenPermissionGroupsList:getAccountApiTokenPermissionGroupsList": {
                "results": [{"id": "dns-write", "name": "DNS Write"}]
            },
            "aws:ssm/getParameter:getParameter": {"value": _AMI, "insecureValue": _AMI},
            "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": {"locations": ["us-west-2b", "us-west-2a"]},
            "cloudflare:index/getIpRanges:getIpRanges": {
                "ipv4Cidrs": ["173.245.48.0/20", "103.21.244.0/22"],
                "ipv6Cidrs": ["2400:cb00::/32"],
            },
            "aws:ec2/getSubnets:getSubnets": {"ids": ["subnet-b", "subnet-a", "subnet-c"]},
            "aws:ec2/getVpc:getVpc": {"id": "vpc-1"},
            "aws:index/getCallerIdentity:getCallerIdentity": {
                "accountId": "123456789012",
                "arn": "arn",
                "userId": "me",
            },
            "aws:route53/getZone:getZone": {"zoneId": "Z1", "arn": "arn:aws:route53:::hostedzone/Z1"},
        }
        self.calls.setdefault(args.token, []).append(dict(args.args))
        return answers[args.token]


def recorded(build: Callable[[], Any], cloud: Cloud | None = None) -> Cloud:
    """What `build` asks the engine for, to the byte."""
    cloud = cloud or Cloud()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    mocks.set_mocks(cloud, project="rollcall", stack="local", preview=False)
    # The mocks bring a stack that is finished; the program runs in one of its own, as the engine's language host runs it.
    set_root_resource(None)
    loop.run_until_complete(pulumi.runtime.run_in_stack(build))
    return cloud


def graph(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """What was made, by type and name. Values that move with every source change are named, not shown."""
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(cloud.made, default=str, sort_keys=True))
    for inputs in found.values():
        for moving in ("userDataBase64", "userdata", "contentBase64"):
            if moving in inputs:
                inputs[moving] = f"<{moving}>"
        if str(inputs.get("key", "")).startswith("releases/"):
            inputs["key"] = "releases/<digest>.tar.bz2"
        if "policy" in inputs:
            inputs["policy"] = re.sub(r"releases/[0-9a-f]{64}", "releases/<digest>", str(inputs["policy"]))
        if isinstance(inputs.get("named"), list):
            inputs["named"] = len(inputs["named"])
        if isinstance(inputs.get("named"), dict):
            inputs["named"] = dict.fromkeys(inputs["named"], "releases/<digest>.tar.bz2")
        for given in (inputs.get("tags", {}), inputs.get("metadata", {})):
            prefixes = ("rollcall-version", "rollcall-release", "rollcall-workload-")
            given.update({name: f"<{name[9:]}>" for name in given if name.startswith(prefixes)})
    return found


# Files that do not fit a user-script.
_LARGE = Path(__file__).resolve().parents[2] / "bench/consul"
_KMS_KEY = "arn:aws:kms:us-west-2:123456789012:key/11111111-2222-3333-4444-555555555555"
_MANAGED = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
_WEB = {"count": 2, "image": "debian-12", "joins": ["site/www"]}
_THE_SERVICE = {"port": 4218, "incarnations": {"v1": {"txt": {"path": "/", "quoted": 'a "b"'}}, "v2": {"shards": 2}}}
CONFIGS: dict[str, dict[str, Any]] = {
    "aws": {
        "sites": {"www": {"zone": "scalability.expert", "protection": "high", "acceleration": True}},
        "fleets": {"web": {"cloud": "aws", "size": "t3.micro", **_WEB}},
    },
    "account": {
        "sites": {"www": {"zone": "scalability.expert", "zoneId": "f" * 32}},
        "serviceDiscovery": {"zone": "unilans.net", "zoneId": "Z1", "services": {"theService": _THE_SERVICE}},
        "fleets": {"web": {"cloud": "joyent", "size": "g1.micro", **_WEB}},
    },
    "joyent": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "fleets": {"web": {"cloud": "joyent", "size": "g1.micro", **_WEB}},
    },
    "closed": {
        "sites": {"www": {"zone": "scalability.expert", "proxied": True}},
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": _THE_SERVICE}},
        "fleets": {
            "web-aws": {"cloud": "aws", "size": "t3.micro", **_WEB, "joins": ["site/www", "theService/v1"]},
            "web-joyent": {
                "cloud": "joyent",
                "size": "g1.micro",
                **_WEB,
                "count": 1,
                "joins": ["site/www", "theService/v1"],
            },
        },
    },
    "services": {
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": _THE_SERVICE}},
        "fleets": {
            "api": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "joins": ["theService/v1"], "weight": 20},
                "ssh": {"user": "admin", "keyName": "operators", "from": ["198.51.100.0/24", "2001:db8::/32"]},
            },
            "old": {"cloud": "joyent", "size": "g1.micro", **_WEB, "joins": ["theService/v2"], "ssh": {}},
        },
    },
    "regions": {
        "sites": {"www": {"zone": "scalability.expert", "proxied": True}},
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": _THE_SERVICE}},
        "fleets": {
            "home": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1},
            "away": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "joins": ["site/www", "theService/v1"]},
                "region": "eu-west-1",
            },
            "beside": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "region": "eu-west-1"},
            "here": {"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1},
            "there": {"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1, "region": "us-east-2"},
        },
    },
    "machines": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "fleets": {
            "web": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1},
                "disk": {"size": 20, "iops": 4000, "throughput": 250, "kmsKey": _KMS_KEY},
                "volumes": [{"size": 100, "mount": "/srv/data", "kmsKey": _KMS_KEY}],
                "tags": {"team": "web"},
                "monitoring": True,
                "policies": {"managed": [_MANAGED], "statements": [{"actions": ["s3:GetObject"], "resources": ["*"]}]},
            },
            "far": {
                **{"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1, "tags": {"team": "web"}},
                **{"timezone": "Europe/Berlin", "proxy": "http://proxy.example.net:3128"},
                **{"aptMirror": "https://mirror.example.net/debian", "logs": {"syslog": "logs.example.net:514"}},
            },
        },
    },
    "ipv6": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": _THE_SERVICE}},
        "fleets": {
            "web": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "joins": ["site/www", "theService/v1"]},
                **{"count": 1, "ipv6": True},
            },
            "plain": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "joins": ["site/www", "theService/v1"]},
        },
    },
    "workloads": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": _THE_SERVICE}},
        "workloads": {
            "www": {"files": str(Path(__file__).resolve().parents[2] / "userdata/workloads/site"), "nginx": {}},
            "api": {
                **{"artifact": "https://releases.example.com/api.tar.gz", "sha256": "0" * 64, "run": "./api"},
                **{"check": {"http": ":4218/healthz"}},
            },
        },
        "fleets": {
            "both": {
                "cloud": "aws",
                "size": "t3.micro",
                **_WEB,
                "joins": ["site/www", "theService/v1"],
                "runs": ["www", "api"],
            },
            "there": {"cloud": "joyent", "size": "g1.micro", **_WEB, "joins": ["theService/v2"], "runs": ["api"]},
            "sample": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1},
        },
    },
    "in-place": {
        "sites": {"www": {"zone": "scalability.expert", "check": "workload:www"}},
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": {**_THE_SERVICE, "check": "tcp:4218"}}},
        "workloads": {
            "www": {
                **{"files": str(Path(__file__).resolve().parents[2] / "userdata/workloads/site"), "nginx": {}},
                **{"check": {"http": ":80/"}, "drain": False},
            },
            "api": {"run": "python3 -m http.server 4218", "check": {"http": ":4218/healthz"}},
            "large": {"files": str(_LARGE), "run": "./start"},
        },
        "fleets": {
            "web": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "joins": ["site/www", "theService/v1"]},
                **{"runs": ["www", "api"], "release": "in-place", "batch": "25%"},
            },
            "old": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "runs": ["www"]},
            "stored": {
                **{"cloud": "joyent", "size": "g1.micro", **_WEB, "joins": ["theService/v2"]},
                **{"runs": ["api", "large"], "release": "in-place", "canary": 1},
            },
            "delivered": {
                **{"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1, "runs": ["www"], "release": "in-place"},
            },
        },
    },
    "zones": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "fleets": {
            "web": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "count": 3, "placement": "spread"},
                **{"zones": ["us-west-2a", "us-west-2b"]},
            },
            "ids": {
                "cloud": "aws",
                "size": "t3.micro",
                **_WEB,
                "count": 1,
                "placement": "partition",
                "zones": ["usw2-az1"],
            },
            "every": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "zones": "all", "region": "eu-west-1"},
        },
    },
    "dynamic": {
        "sites": {"www": {"zone": "example.org", "provider": "rfc2136", "server": "192.0.2.53", "host": "www.eu"}},
        "serviceDiscovery": {
            "zone": "example.org",
            "provider": "rfc2136",
            "server": "[2001:db8::53]:5353",
            "services": {"theService": _THE_SERVICE},
        },
        "fleets": {
            "web": {"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1, "joins": ["site/www", "theService/v1"]},
            "api": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "joins": ["theService/v2"]},
        },
    },
    "sites": {
        "sites": {
            "www": {"zone": "scalability.expert", "proxied": True},
            "shop": {
                "zone": "scalability.expert",
                "host": "shop",
                "proxied": True,
                "apex": False,
                "protection": "high",
            },
            "docs": {
                "zone": "example.org",
                "host": "docs",
                "provider": "rfc2136",
                "server": "192.0.2.53",
                "port": 8080,
                "check": "workload:docs",
            },
        },
        "workloads": {"docs": {"run": "python3 -m http.server 8080", "check": {"http": ":8080/"}}},
        "fleets": {
            "web": {"cloud": "aws", "size": "t3.micro", **_WEB, "joins": ["site/www", "site/shop"], "count": 1},
            "all": {
                "cloud": "joyent",
                "size": "g1.micro",
                **_WEB,
                "count": 1,
                "joins": ["site/www", "site/shop", "site/docs"],
                "runs": ["site", "docs"],
            },
            "docs": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "joins": ["site/docs"], "runs": ["docs"]},
        },
    },
    "certificates": {
        "sites": {
            "www": {"zone": "scalability.expert", "tls": {"acme": {"email": "ops@scalability.expert"}}},
            "docs": {
                "zone": "example.org",
                "host": "docs",
                "provider": "rfc2136",
                "server": "192.0.2.53",
                "tls": {"acme": {"directory": "letsencrypt-staging"}},
            },
        },
        "fleets": {
            "web": {"cloud": "aws", "size": "t3.micro", **_WEB, "joins": ["site/www", "site/docs"], "count": 1},
            "there": {"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1},
        },
    },
    "secrets": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": _THE_SERVICE}},
        "workloads": {
            "shop": {
                "container": f"ghcr.io/acme/shop@sha256:{'0' * 64}",
                "registry": {"user": "acme", "password": "secret-three"},
                "secrets": {"DATABASE_URL": "postgres://secret-one", "API_KEY": "secret-two"},
            },
            "plain": {"run": "python3 -m plain"},
        },
        "fleets": {
            "shops": {**{"cloud": "aws", "size": "t3.micro"}, **_WEB, "runs": ["shop", "plain"]},
            "there": {**{"cloud": "joyent", "size": "g1.micro"}, **_WEB, "joins": ["theService/v2"], "runs": ["shop"]},
            "plains": {**{"cloud": "aws", "size": "t3.micro"}, **_WEB, "count": 1, "runs": ["plain"]},
        },
    },
    "mirrors": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": _THE_SERVICE}},
        "workloads": {
            "large": {"files": str(_LARGE), "run": "./start"},
            "small": {"run": "python3 -m http.server 8080"},
            "hooked": {"run": "python3 -m http.server 8081", "before": {"run": "python3 -m migrate"}},
        },
        "mirrors": {
            "r2": {
                "endpoint": "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com",
                "bucket": "rollcall-releases",
                "accessKey": "reader",
                "secretKey": "secret-of-reader",
                "upload": {"accessKey": "writer", "secretKey": "secret-of-writer"},
            },
            "web": {"https": "https://mirror.example.net/rollcall/"},
        },
        "fleets": {
            "here": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "runs": ["large"]},
            "by-key": {
                **{"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1, "runs": ["small", "large", "hooked"]},
                "joins": ["theService/v1"],
            },
            "there": {"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1, "runs": ["large"]},
            "carried": {"cloud": "joyent", "size": "g1.micro", **_WEB, "count": 1, "runs": ["small"]},
        },
    },
    "vpcs": {
        "sites": {"www": {"zone": "scalability.expert"}},
        "fleets": {
            "chosen": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "vpc": {"Name": "company"}, "subnets": "public"},
                **{"securityGroups": ["sg-0123456789abcdef0"]},
            },
            "stable": {
                **{"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "stableAddresses": True, "ipv6": True},
                **{"securityGroups": ["sg-0123456789abcdef0"]},
            },
            "inside": {
                "cloud": "aws",
                "size": "t3.micro",
                **_WEB,
                "count": 1,
                "publicAddress": True,
                "vpc": "vpc-01234567",
            },
        },
    },
    "new": {
        "sites": {
            "www": {
                "zone": "scalability.expert",
                "create": True,
                "proxied": True,
                "protection": "high",
                "acceleration": True,
            }
        },
        "serviceDiscovery": {"zone": "unilans.net", "create": True, "services": {"theService": _THE_SERVICE}},
        "fleets": {
            "all": {
                "cloud": "aws",
                "size": "t3.micro",
                **_WEB,
                "joins": ["site/www", "theService/v1"],
                "imageRefresh": "2",
            },
            "far": {"cloud": "joyent", "size": "g1.micro", **_WEB, "joins": ["site/www", "theService/v2"]},
            "own": {"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "image": "ami-0123456789abcdef0"},
        },
    },
}
CONFIGS["private"] = {
    "sites": {"www": {"zone": "scalability.expert", "address": "private"}},
    "serviceDiscovery": {
        "zone": "unilans.net",
        "private": True,
        "create": True,
        "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}},
    },
    "fleets": {
        "api": {"cloud": "aws", "size": "t3.micro", **_WEB, "joins": ["site/www", "theService/v1"]},
        "far": {
            **{"cloud": "aws", "size": "t3.micro", **_WEB, "count": 1, "region": "eu-west-1"},
            "joins": ["theService/v1"],
        },
    },
}
# The same with another file, variable, package and check of the workloads.
CONFIGS["in-place-next"] = {
    **CONFIGS["in-place"],
    "workloads": {
        "www": {
            **{"files": str(Path(__file__).resolve().parents[2] / "userdata/workloads/the-service"), "nginx": {}},
            **{"check": {"http": ":80/other", "timeout": 2}, "drain": True},
        },
        "api": {
            **{"run": "python3 -m http.server 4219", "env": {"A": "b"}, "packages": ["jq"]},
            **{"check": [{"http": ":4218/healthz"}, {"command": "./healthy"}]},
        },
        "large": {"files": str(_LARGE), "run": "./start --other"},
    },
}


def networked(settings: Any) -> Any:
    """As the preflight leaves them: each Triton fleet with the only public network of its data centre, EC2 fleets with their VPC."""
    from components.config.models import FleetVpc, Subnet
    from components.joyent.records import NetworkRecord
    from components.preflight.triton_networks import Datacenter

    public = NetworkRecord.of(
        {"id": "0efd931d-0000-4000-8000-000000000001", "name": "MNX-Triton-Public", "public": True}
    )
    datacenter = Datacenter(name=lambda: "us-central-1", networks=[public])
    found = {each.name: datacenter.resolve(each) for each in settings.fleets_of("joyent")}
    fleets = tuple(found[each.name][0] if each.name in found else each for each in settings.fleets)
    subnets = (Subnet(id="subnet-x", zone="us-west-2a"), Subnet(id="subnet-y", zone="us-west-2b"))
    chosen = {
        each.name: FleetVpc(id="vpc-9", subnets=subnets)
        for each in settings.fleets_of("aws")
        if settings.chooses_vpc(each)
    }
    return replace(settings, fleets=fleets, network_ids={name: ids for name, (_, ids) in found.items()}, vpcs=chosen)


def program(config: str) -> Callable[[], Any]:
    """Rollcall's own program with this configuration. No account is queried."""

    def build() -> Any:
        from components.config.reader import read
        from components.preflight import checks
        from components.preflight.existing_resources import ExistingReport
        from components.resources import ec2_lookups, release_files
        from components.workloads.definitions import packed, project_folder

        def checked(stack: str, *_: Any, **__: Any) -> Any:
            settings, faults = packed(networked(read(stack, CONFIGS[config])), project_folder())
            assert not faults, faults
            if settings.fleets_of("aws"):
                ec2_lookups.provider_identity()
            return settings, ExistingReport(token_account=_ACCOUNT if config == "account" else "")

        checks.checked = checked
        release_files.write = lambda *_: []
        runpy.run_path(str(Path(__file__).resolve().parents[2] / "__main__.py"))

    return build


def load() -> None:
    """Import what the program imports, and make what is the same in all graphs. Each build does what is left out here."""
    import components
    from components.config.reader import read
    from components.resources import aws_sdk, cloudflare_sdk, userdata
    from components.resources.sdk_parts import Part

    for module in pkgutil.walk_packages(components.__path__, "components."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    for name in cloudflare_sdk.NAMES:
        getattr(cloudflare_sdk, name)
    for part in vars(aws_sdk).values():
        for name in part._names if isinstance(part, Part) else ():
            getattr(part, name)
    # The models, and the agent's release.
    read("local", CONFIGS["sites"])
    len(userdata.release().packed)


def built(config: str) -> dict[str, Any]:
    """The graph of a configuration and its calls, from a fork of this process."""
    with tempfile.TemporaryFile("w+") as printed:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                cloud = recorded(program(config))
                json.dump({"graph": graph(cloud), "calls": cloud.calls}, printed)
                printed.flush()
                code = 0
            except BaseException:  # noqa: BLE001 - it is printed, and the exit code shows it
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"the graph of {config} was not built")
        printed.seek(0)
        found: dict[str, Any] = json.load(printed)
        return found


if __name__ == "__main__":
    # It ends soon; looking for garbage among the SDKs' classes takes a third of its time.
    gc.disable()
    load()
    print(json.dumps({config: built(config) for config in sys.argv[1:]}, indent=2, sort_keys=True))
