"""Create TLS between Cloudflare's edge and the machines of a closed site: a private key, and a certificate of Cloudflare's Origin CA.

https://developers.cloudflare.com/ssl/origin-configuration/origin-ca/ . Only the edge trusts this certificate, and only
the edge can reach the machines. There is no plugin for keys here, so a small dynamic resource makes the key and the
request. The names of its module and classes are part of the state's format and are never changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider

from components.config.models import SiteSettings
from components.dns.cloudflare_access import CLOUDFLARE_KEYS, cloudflare_token, cloudflare_url
from components.joyent.engine import Engine
from components.resources import cloudflare_sdk
from components.resources.firewall import Ranges, published

if TYPE_CHECKING:
    from components.dns.cloudflare_api import CloudflareApi

DAY = 86400
# One of the numbers of days that Cloudflare offers.
VALIDITY = 365
RENEWED_BEFORE = 30


class OriginKeyProvider(ResourceProvider):
    """Makes a key that lives as long as its certificate.

    A refresh reports when it ends soon, and the program then shows a difference.
    """

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(each) for each in props["hostnames"]]
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, props["hostnames"][-1][:64])]))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        csr = request.public_bytes(serialization.Encoding.PEM)
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashes.Hash(hashes.SHA256())
        digest.update(public)
        made = {"private_key": private.decode(), "csr": csr.decode(), "made": int(time.time())}
        return CreateResult(digest.finalize().hex()[:16], {**props, **made})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        found = {**props, "renewal": _renewal(float(props["made"]), float(props["days"]), time.time())}
        inputs = {name: found[name] for name in ("hostnames", "days", "renewal")}
        return ReadResult(id_, found, inputs)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        replaces = [name for name in ("hostnames", "days", "renewal") if _olds.get(name) != _news.get(name)]
        return DiffResult(changes=bool(replaces), replaces=replaces, stables=[], delete_before_replace=False)


def _renewal(made: float, days: float, now: float) -> str:
    """Return an empty text while there is time, or how many days are left when a new key and certificate are due."""
    left = (made + days * DAY - now) / DAY
    return "" if left >= RENEWED_BEFORE else f"{max(left, 0):.0f} days left"


class OriginKey(Resource, module="rollcall", name="OriginKey"):  # type: ignore[call-arg]
    """An EC key on P-256 and a request for `hostnames`.

    A new key is due when `days` after its creation are nearly over. Then `renewal` is no longer empty, and a preview
    shows the replacement. `private_key` is a secret.
    """

    private_key: pulumi.Output[str]
    csr: pulumi.Output[str]

    def __init__(self, name: str, hostnames: list[str], days: int, opts: pulumi.ResourceOptions | None = None) -> None:
        made: dict[str, Any] = {"private_key": None, "csr": None, "made": None}
        secret = pulumi.ResourceOptions(additional_secret_outputs=["private_key"])
        props = {"hostnames": hostnames, "days": days, "renewal": "", **made}
        super().__init__(OriginKeyProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))


class RevocationError(Exception):
    """Cloudflare did not revoke a certificate. The message says what it answered."""


class RevocationProvider(ResourceProvider):
    """Revokes a certificate when the stack is destroyed.

    A certificate that has a successor is left to expire. Cloudflare does not trust a revoked one, and a machine takes
    the successor when it next asks its cloud, which may be a day later.
    """

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        self.config = {key: value for key in CLOUDFLARE_KEYS if (value := req.config.get(key)) is not None}

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(str(props["certificate"]), props)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = _olds.get("certificate") != _news.get("certificate")
        return DiffResult(
            changes=moved, replaces=["certificate"] if moved else [], stables=[], delete_before_replace=False
        )

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        query = {"zone_id": _props["zone"], "per_page": "50"}
        try:
            listed = self._call("GET", "/certificates", query)
        except RevocationError:
            if not self._is_zone_gone(_props["zone"]):
                raise
            Engine().say(
                f"the origin certificate {_id}: its zone {_props['zone']} was deleted, so it is not revoked and expires on "
                f"{_props['expires']}",
                warning=True,
            )
            return
        newer = [
            each["id"]
            for each in listed
            if each["id"] != _id and _props["host"] in each["hostnames"] and each["expires_on"] > _props["expires"]
        ]
        if newer:
            Engine().say(
                f"the origin certificate {_id} has a successor; machines take that within a day, so the old one is not revoked "
                f"and expires on {_props['expires']}"
            )
        else:
            self._call("DELETE", f"/certificates/{_id}")

    def _is_zone_gone(self, zone: str) -> bool:
        from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError
        from components.dns.cloudflare_store import is_zone_gone

        try:
            return is_zone_gone(self._api(), zone)
        except (ApiFailingError, ApiRefusedError):
            return False

    def _api(self) -> CloudflareApi:
        from components.dns.cloudflare_api import CloudflareApi

        return CloudflareApi(cloudflare_url(self.config.get), cloudflare_token(self.config.get))

    def _call(self, method: str, path: str, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        from components.dns.cloudflare_api import ApiFailingError, ApiRefusedError

        try:
            found = self._api().call(method, path, query=query)["result"]
        except ApiRefusedError as refused:
            if refused.status == 404:
                return []
            raise RevocationError(str(refused)) from refused
        except ApiFailingError as failed:
            raise RevocationError(str(failed)) from failed
        return found if isinstance(found, list) else []


class Revocation(Resource, module="rollcall", name="Revocation"):  # type: ignore[call-arg]
    """The revocation of the certificate with that id, for `host` in a zone (its id).

    `expires` is as Cloudflare writes it.
    """

    def __init__(
        self,
        name: str,
        *,
        certificate: pulumi.Input[str],
        zone: pulumi.Input[str],
        host: str,
        expires: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"certificate": certificate, "zone": zone, "host": host, "expires": expires}
        super().__init__(RevocationProvider(), name, props, opts)


@dataclass(frozen=True, kw_only=True)
class ClosedOriginArgs:
    """The inputs of a ClosedOrigin.

    `settings` are those of a site that is proxied. `zone_id` is what SiteZone returns. Another `rotation_trigger` makes
    another key and certificate.
    """

    settings: SiteSettings
    zone_id: pulumi.Input[str]
    rotation_trigger: str = ""


class ClosedOrigin(pulumi.ComponentResource):
    """The parts that close a proxied site's machines to all addresses except the edge.

    `ranges` are the networks of the edge. `pem` is a secret: the private key, then the certificate. `made` must exist
    as long as any machine does.
    """

    ranges: Ranges
    pem: pulumi.Output[str]

    def __init__(self, name: str, args: ClosedOriginArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("rollcall:index:ClosedOrigin", name, None, opts)
        self.ranges = published(self)
        host = args.settings.fqdn
        hostnames = sorted({host, args.settings.zone} if args.settings.apex else {host})
        options = pulumi.ResourceOptions(parent=self, replacement_trigger=[args.rotation_trigger])
        key = OriginKey(f"{name}-key", hostnames, VALIDITY, options)
        certificate = cloudflare_sdk.OriginCaCertificate(
            f"{name}-certificate",
            csr=key.csr,
            hostnames=hostnames,
            request_type="origin-ecc",
            requested_validity=VALIDITY,
            opts=pulumi.ResourceOptions(
                parent=self,
                # A new key replaces the certificate. What Cloudflare returns for these inputs differs in order and form
                # from what it was given, which would make a new certificate at each `up`
                # (terraform-provider-cloudflare, issues 5392 and 6239).
                replace_with=[key],
                # The certificate's Revocation decides on that.
                retain_on_delete=True,
                ignore_changes=["csr", "hostnames", "requestType", "requestedValidity"],
            ),
        )
        revocation = Revocation(
            f"{name}-revocation",
            certificate=certificate.id,
            zone=args.zone_id,
            host=host,
            expires=certificate.expires_on,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.pem = pulumi.Output.secret(
            pulumi.Output.all(key.private_key, certificate.certificate).apply(
                lambda both: "".join(f"{each.strip()}\n" for each in both)
            )
        )
        self.made: list[pulumi.Resource] = [key, certificate, revocation]
        self.register_outputs({})
