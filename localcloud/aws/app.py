"""The local AWS as one WSGI application, for all of its services."""

from __future__ import annotations

import logging
import secrets
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from localcloud.aws import imds
from localcloud.aws.authorization import Authorization
from localcloud.aws.ec2 import store
from localcloud.aws.ec2.addresses import AddressPool
from localcloud.aws.ec2.api import Ec2Api
from localcloud.aws.ec2.gates import gates
from localcloud.aws.ec2.power import Power
from localcloud.aws.identity import Identities, Principal, Sessions
from localcloud.aws.moto_backends import Moto
from localcloud.aws.needs import needs_of
from localcloud.aws.quotas import QuotasApi
from localcloud.aws.route53 import PRESENT, Limits, Route53
from localcloud.aws.route53.names import normalize
from localcloud.aws.route53.records import Change
from localcloud.aws.route53.records import RecordSet as Route53RecordSet
from localcloud.aws.ssm import SsmApi
from localcloud.aws.sts import StsApi
from localcloud.aws.wire import SERVICES, AwsError, Call, Reply, render, service_of
from localcloud.compute import Hypervisor, Observer
from localcloud.dnsdata import RecordSet, ZoneSource
from localcloud.packets import Gate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from localcloud.faults import Faults
    from localcloud.http import WSGIApp

_log = logging.getLogger(__name__)
_THROTTLED = {
    "ec2": ("RequestLimitExceeded", "Request limit exceeded.", 503),
    "ssm": ("ThrottlingException", "Rate exceeded", 400),
}


class Aws(Observer, ZoneSource):
    """One account. `operator` is the key id and secret of the one who may do everything.

    `addresses` are the first and last public address; `vcpu_limit` is the quota of running vCPUs; `credential_lifetime` and
    `terminated_visible` are seconds; `faults` are in front of `app`, by service. `account` (12 digits) is random unless
    given, so that several can live in one process.
    """

    def __init__(
        self,
        *,
        operator: tuple[str, str],
        hypervisor: Hypervisor,
        region: str = "us-west-2",
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
        self.region = region
        self._moto = Moto(self.account, region)
        self._store = kept = store.install(self.account, region)
        self._power = Power(
            hypervisor=hypervisor,
            observer=self,
            pool=AddressPool(*addresses),
            lock=self._moto.lock,
            forget=lambda instance: _forget(kept, instance),
            clock=clock,
            terminated_visible=terminated_visible,
        )
        sessions = Sessions(self.account, clock, credential_lifetime)
        self._identities = Identities(
            account=self.account,
            region=region,
            operator=operator,
            sessions=sessions,
            iam=lambda: self._moto.iam,
            clock=clock,
        )
        self._authorization = Authorization(
            account=self.account, region=region, iam=lambda: self._moto.iam, clock=clock
        )
        self._ec2 = Ec2Api(self._moto, kept, self._power, vcpu_limit=vcpu_limit)
        self._ssm = SsmApi(self._moto)
        self._quotas = QuotasApi(self.account, region, vcpu_limit)
        self._sts = StsApi(self._moto, sessions)
        self._imds = imds.Imds(
            store=kept, power=self._power, sessions=sessions, region=region, lock=self._moto.lock, clock=clock
        )
        self.route53 = Route53(clock=clock, faults=faults, limits=route53_limits)
        self.app: WSGIApp = self._serve
        if faults is not None:
            self.app = faults.middleware(_service, self._serve, _throttled)

    def close(self) -> None:
        """Forget the account."""
        self._moto.forget()

    def have_ipv6(self) -> None:
        """Give the default VPC and its subnets IPv6 CIDRs, as an operator does who wants them."""
        with self._moto.lock:
            self._store.have_ipv6()

    def add_zone(self, name: str) -> str:
        """A hosted zone that exists from the start; its id."""
        return self.route53.store.add_zone(name).id

    def add_record_set(self, zone: str, name: str, kind: str, ttl: int, *values: str) -> None:
        """A record set that is in the zone with this id from the start, as somebody else's. Raises AwsError as the API does."""
        made = Route53RecordSet(name=normalize(name), type=kind, ttl=ttl, values=values)
        self.route53.store.change(zone, [Change("CREATE", made)])

    def imds(
        self, address: str, method: str, path: str, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """The metadata service's answer (status, headers, body) for the machine with that address."""
        return self._imds.answer(address, method, path, headers)

    def gates(self) -> list[Gate]:
        """What the security groups do to each machine's packets at this moment."""
        with self._moto.lock:
            return gates(self._power.on_the_wire())

    # Observer

    def running(self, machine_id: str) -> None:
        self._power.running(machine_id)

    def stopped(self, machine_id: str) -> None:
        self._power.stopped(machine_id)

    def failed(self, machine_id: str, reason: str) -> None:
        self._power.failed(machine_id, reason)

    # ZoneSource

    def zones(self) -> tuple[str, ...]:
        return self.route53.store.zones()

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        return self.route53.store.lookup(zone, name)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        service = _service(environ)
        try:
            call = Call.read(environ)
            reply = self._answer(call)
        except AwsError as refused:
            reply = render(service, refused)
        except Exception as broken:  # noqa: BLE001 - an API answers 500 and goes on
            # Where, but neither the request nor the error's text: both may hold secrets.
            where = "".join(traceback.format_tb(broken.__traceback__))
            _log.error("the local %s failed at a request: %s\n%s", service, type(broken).__name__, where)
            reply = render(service, AwsError("InternalFailure", "The local AWS failed; its log says more.", 500))
        return _send(reply, environ, start_response)

    def _answer(self, call: Call) -> Reply:
        if call.service and call.service not in SERVICES:
            raise AwsError("UnknownService", f"The local AWS has no {call.service}, only {', '.join(SERVICES)}", 501)
        principal = self._identities.of(call)
        if call.service == "route53":
            return self.route53.answer(call, lambda needs: self._authorization.check(principal, call, needs))
        self._authorize(principal, call)
        if call.service == "ec2":
            return self._ec2.answer(call)
        if call.service == "ssm":
            return self._ssm.answer(call)
        if call.service == "servicequotas":
            return self._quotas.answer(call)
        if call.service == "sts":
            return self._sts.answer(call, principal)
        if call.action == "DeleteUser":
            self._check_no_keys(call.get("UserName") or "")
        return self._moto.answer(call)

    def _check_no_keys(self, user: str) -> None:
        """moto deletes a user with access keys. https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteUser.html"""
        with self._moto.lock:
            found = self._moto.iam.users.get(user)
            if found is not None and found.access_keys:
                raise AwsError("DeleteConflict", "Cannot delete entity, must delete access keys first.", 409)

    def _authorize(self, principal: Principal, call: Call) -> None:
        if principal.kind != "operator":
            needs = needs_of(
                call,
                account=self.account,
                region=self.region,
                principal_name=principal.name,
                tags_of=self._ec2.tags_of,
            )
            self._authorization.check(principal, call, needs)


def _send(reply: Reply, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
    start_response(f"{reply.status} {'OK' if reply.status < 400 else 'Refused'}", [*headers, *reply.headers.items()])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else reply.body]


def _service(environ: WSGIEnvironment) -> str:
    return service_of({"authorization": environ.get("HTTP_AUTHORIZATION", ""), "host": environ.get("HTTP_HOST", "")})


def _throttled(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What the request's service says to one request too many."""
    service = _service(environ)
    reply = render(service, AwsError(*_THROTTLED.get(service, ("Throttling", "Rate exceeded", 400))))
    return _send(reply, environ, start_response)


def _forget(kept: object, instance_id: str) -> None:
    """Take an instance out of moto's reservations."""
    reservations = kept.reservations  # type: ignore[attr-defined]
    for known, reservation in list(reservations.items()):
        reservation.instances = [each for each in reservation.instances if each.id != instance_id]
        if not reservation.instances:
            del reservations[known]
