"""The local AWS as one WSGI application, for all of its services."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING

from localcloud.aws import iam, operations
from localcloud.aws.authorization import Authorization
from localcloud.aws.catalogue import REGIONS
from localcloud.aws.ec2.addresses import AddressPool
from localcloud.aws.ec2.gates import gates
from localcloud.aws.ec2.routes import translations
from localcloud.aws.identity import Identities, Principal, Sessions
from localcloud.aws.needs import needs_of
from localcloud.aws.openid import Issuers
from localcloud.aws.quotas import BUCKETS
from localcloud.aws.region import Region
from localcloud.aws.route53 import PRESENT, Limits, Route53
from localcloud.aws.route53.names import normalize
from localcloud.aws.route53.records import Change
from localcloud.aws.route53.records import RecordSet as Route53RecordSet
from localcloud.aws.route53.store import MANNER, PrivateZones
from localcloud.aws.s3 import S3
from localcloud.aws.simulation import ACTION as SIMULATE
from localcloud.aws.simulation import Simulator
from localcloud.aws.sts import StsApi
from localcloud.aws.wire import SERVICES, AwsError, Call, Reply, render, scope_of, service_of
from localcloud.dns.data import RecordSet, ZoneSource
from localcloud.machines.compute import Hypervisor, Observer
from localcloud.network.keepalive import NOTED
from localcloud.network.packets import Gate
from localcloud.network.translation import Translation

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from localcloud.network.faults import Faults
    from localcloud.network.http import WSGIApp

_log = logging.getLogger(__name__)
_THROTTLED = {
    "ec2": ("RequestLimitExceeded", "Request limit exceeded.", 503),
    "s3": ("SlowDown", "Please reduce your request rate.", 503),
    "ssm": ("ThrottlingException", "Rate exceeded", 400),
}


class Aws(Observer, ZoneSource):
    """One account in `regions`; the first one is its home. `operator` is the key id and secret of the user that may do everything.

    `addresses` are the first and last public address; `vcpu_limit` is each region's quota of running vCPUs; `credential_lifetime` and
    `terminated_visible` are seconds; `faults` are in front of `app`, by service. `account` (12 digits) is random unless
    given, so that several can live in one process.
    """

    def __init__(
        self,
        *,
        operator: tuple[str, str],
        hypervisor: Hypervisor,
        regions: tuple[str, ...] = REGIONS,
        clock: Callable[[], float] = time.time,
        faults: Faults | None = None,
        account: str | None = None,
        addresses: tuple[str, str] = ("198.51.100.10", "198.51.100.250"),
        vcpu_limit: int = 1152,
        credential_lifetime: float = 21600.0,
        terminated_visible: float = 3600.0,
        route53_limits: Limits = PRESENT,
    ) -> None:
        self.account = account or str(10**11 + secrets.randbelow(9 * 10**11))
        sessions = Sessions(self.account, clock, credential_lifetime)
        self._clock = clock
        self._lock, pool = threading.RLock(), AddressPool(*addresses)
        self.regions = {
            name: Region(
                name,
                account=self.account,
                lock=self._lock,
                pool=pool,
                hypervisor=hypervisor,
                observer=self,
                sessions=sessions,
                clock=clock,
                terminated_visible=terminated_visible,
                vcpu_limit=vcpu_limit,
                faults=faults,
            )
            for name in regions
        }
        self._home = self.regions[regions[0]]
        self._moto = self._home.moto
        self._identities = Identities(
            account=self.account,
            regions=regions,
            operator=operator,
            sessions=sessions,
            iam=lambda: self._moto.iam,
            clock=clock,
        )
        self._authorization = Authorization(
            account=self.account, region_of=self._region_of, iam=lambda: self._moto.iam, clock=clock
        )
        self._simulator = Simulator(self.account, lambda: self._moto.iam, self._identities.operator_arn)
        self._others: dict[str, Aws] = {}
        self.issuers = Issuers(clock)
        """The issuers of OpenID Connect tokens, with their known keys."""
        self.sts = StsApi(self._moto, sessions, self.issuers, lambda account: self._others.get(account))
        self.s3 = S3(self.account, self._is_bucket_of_another, lambda: self._home.quotas.value(BUCKETS))
        self.route53 = Route53(clock=clock, faults=faults, limits=route53_limits)
        self.route53.store.has_vpc = lambda region, vpc: region in self.regions and self.regions[region].has_vpc(vpc)
        self.app: WSGIApp = self._serve
        if faults is not None:
            self.app = faults.middleware(_service, self._serve, _throttled)

    def knows(self, key_id: str) -> bool:
        """Return whether this access key belongs to this account."""
        return self._identities.knows(key_id)

    def beside(self, accounts: Iterable[Aws]) -> None:
        """Let principals of this account assume roles of these accounts that trust them.

        This account then also knows that a zone belongs to another account and is not missing.
        """
        self._others = {each.account: each for each in accounts}
        others = [each.route53.store for each in self._others.values() if each is not self]
        self.route53.store.is_foreign = lambda zone: any(each.has(zone) for each in others)

    def close(self) -> None:
        """Forget the account."""
        self._moto.forget()

    def have_ipv6(self) -> None:
        """Give each region's default VPC and its subnets IPv6 CIDRs, as an operator does to use IPv6."""
        with self._lock:
            for region in self.regions.values():
                region.store.have_ipv6()

    def add_zone(self, name: str) -> str:
        """Add a hosted zone that exists from the start. Return its id."""
        return self.route53.store.add_zone(name).id

    def add_record_set(self, zone: str, name: str, kind: str, ttl: int, *values: str) -> None:
        """Add a foreign record set that is in the zone with this id from the start. Raises AwsError as the API does."""
        made = Route53RecordSet(name=normalize(name), type=kind, ttl=ttl, values=values)
        self.route53.store.change(zone, [Change("CREATE", made)])

    def imds(
        self, address: str, method: str, path: str, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the metadata service's answer (status, headers, body) for the machine with that address."""
        here = (each for each in self.regions.values() if each.power.at(address) is not None)
        return next(here, self._home).imds.answer(address, method, path, headers)

    def gates(self) -> list[Gate]:
        """Return what the security groups do to each machine's packets now."""
        with self._lock:
            return gates([each for region in self.regions.values() for each in region.power.on_the_wire()])

    def translations(self) -> list[Translation]:
        """Return which public address each machine has now, and from which one its packets come."""
        with self._lock:
            return [
                each
                for region in self.regions.values()
                for each in translations(
                    region.store, ((one, addresses[0]) for one, addresses in region.power.on_the_wire())
                )
            ]

    def vpc_at(self, address: str) -> str:
        """Return the id of the VPC with the machine that has this address now; empty if there is none."""
        with self._lock:
            here = (region.power.at(address) for region in self.regions.values())
            return next((str(each.nics[0].subnet.vpc_id) for each in here if each is not None), "")

    def in_vpc(self, vpc: str) -> ZoneSource:
        """Return the private zones that a VPC finds."""
        return PrivateZones(self.route53.store, vpc)

    # Observer; a region knows its own machines only.

    def running(self, machine_id: str) -> None:
        for region in self.regions.values():
            region.power.running(machine_id)

    def stopped(self, machine_id: str) -> None:
        for region in self.regions.values():
            region.power.stopped(machine_id)

    def failed(self, machine_id: str, reason: str) -> None:
        for region in self.regions.values():
            region.power.failed(machine_id, reason)

    # ZoneSource

    manner = MANNER

    def zones(self) -> tuple[str, ...]:
        return self.route53.store.zones()

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        return self.route53.store.lookup(zone, name)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        service = _service(environ)
        try:
            call = Call.read(environ)
            # For the request log: an access key's id is not a secret.
            environ[NOTED] = f"{call.service}:{call.action or call.method} key={key_id_of(environ) or '-'}"
            reply = self._answer(call)
        except AwsError as refused:
            reply = render(service, refused, in_json=_in_json(environ, service))
        except Exception as broken:  # noqa: BLE001 - an API answers 500 and continues
            # Log where it happened, but neither the request nor the error's text: both may contain secrets.
            where = "".join(traceback.format_tb(broken.__traceback__))
            _log.error("the local %s failed at a request: %s\n%s", service, type(broken).__name__, where)
            reply = render(service, AwsError("InternalFailure", "The local AWS failed; its log says more.", 500))
        # As in every answer of AWS: the time by its own clock (RFC 9110 section 6.6.1).
        dated = replace(reply, headers={"Date": formatdate(self._clock(), usegmt=True), **reply.headers})
        return _send(dated, environ, start_response)

    def _answer(self, call: Call) -> Reply:
        if call.service and call.service not in SERVICES:
            raise AwsError("UnknownService", f"The local AWS has no {call.service}, only {', '.join(SERVICES)}", 501)
        if call.service == "sts" and call.action == "AssumeRoleWithWebIdentity":
            return self.sts.with_web_identity(call)
        principal = self._identities.of(call)
        if call.service == "route53":
            return self.route53.answer(call, lambda needs: self._authorization.check(principal, call, needs))
        if call.service == "s3":
            return self.s3.answer(
                call, lambda needs, policy: self._authorization.check_resource(principal, call, needs, policy)
            )
        # The signature for a global service may name a region that this account does not have.
        region = self.regions.get(call.region, self._home)
        self._authorize(principal, call, region)
        operations.check(call)
        if call.service == "ec2":
            return region.ec2.answer(call)
        if call.service == "ssm":
            return region.ssm.answer(call)
        if call.service == "servicequotas":
            return region.quotas.answer(call)
        if call.service == "sts":
            return self.sts.answer(call, principal)
        if call.action == SIMULATE:
            with self._lock:
                return self._simulator.answer(call)
        with self._lock:
            iam.check(call, self._moto.iam)
        if call.action == "DeleteUser":
            self._check_no_keys(call.get("UserName") or "")
        return self._moto.answer(call)

    def _check_no_keys(self, user: str) -> None:
        """moto deletes a user with access keys. https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteUser.html"""
        with self._lock:
            found = self._moto.iam.users.get(user)
            if found is not None and found.access_keys:
                raise AwsError("DeleteConflict", "Cannot delete entity, must delete access keys first.", 409)

    def _is_bucket_of_another(self, name: str) -> bool:
        return any(each.s3.has(name) for each in self._others.values() if each is not self)

    def _region_of(self, instance: str) -> str:
        found = (name for name, each in self.regions.items() if each.power.state(instance) is not None)
        return next(found, self._home.name)

    def _authorize(self, principal: Principal, call: Call, region: Region) -> None:
        if principal.kind != "operator":
            needs = needs_of(
                call,
                account=self.account,
                region=region.name,
                principal_name=principal.name,
                tags_of=region.ec2.tags_of,
            )
            self._authorization.check(principal, call, needs)


def _send(reply: Reply, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
    start_response(f"{reply.status} {'OK' if reply.status < 400 else 'Refused'}", [*headers, *reply.headers.items()])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else reply.body]


def key_id_of(environ: WSGIEnvironment) -> str:
    """Return the access key with which a request says it is signed; empty if it is not signed."""
    return scope_of({"authorization": str(environ.get("HTTP_AUTHORIZATION", ""))})[0]


def _service(environ: WSGIEnvironment) -> str:
    return service_of({"authorization": environ.get("HTTP_AUTHORIZATION", ""), "host": environ.get("HTTP_HOST", "")})


def _in_json(environ: WSGIEnvironment, service: str) -> bool:
    """Return whether the client of a service that is not emulated reads JSON.

    It does if it names a target. It does also without a form, because only S3 has XML then.

    https://smithy.io/2.0/aws/protocols/index.html
    """
    is_form = "x-www-form-urlencoded" in str(environ.get("CONTENT_TYPE", ""))
    return "HTTP_X_AMZ_TARGET" in environ or not (is_form or service in (*SERVICES, "s3", ""))


def _throttled(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Return the error of the request's service for a throttled request."""
    service = _service(environ)
    reply = render(service, AwsError(*_THROTTLED.get(service, ("Throttling", "Rate exceeded", 400))))
    return _send(reply, environ, start_response)
