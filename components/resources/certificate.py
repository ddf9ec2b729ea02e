"""Create the Certificate of a site with `tls`: issued by ACME with DNS-01, with the operator's rights in the zone (docs/certificates.md).

The program makes the keys and gets the first certificate. From then on the machines renew it themselves
(rollcall.certificates), and the program only takes the present one when its own ends soon. A certificate that is
replaced or removed is revoked.

The names of this module and its classes are part of the state's format and are never changed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from components.config.models import AcmeSettings
from components.dns.acme_account import CESSATION, KEY_COMPROMISE, Account, new_key, text_of
from components.dns.cloudflare_access import CLOUDFLARE_KEYS, cloudflare_token, cloudflare_url
from components.dns.rfc2136 import TSIG_KEY, store_of, tsig_key
from components.joyent.engine import Engine
from rollcall.errors import FatalError, RollcallError, TransientError
from rollcall.retrying import retried

if TYPE_CHECKING:
    from rollcall.acme_client import Bundle, Texts

DAY_S = 86400
# The program renews at the same moment as a machine does.
RENEW_AT = 1 / 3
# An SSM parameter of the standard tier: https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html
LONGEST_BYTES = 4096
_WITHIN_S = 30.0
_RESOLVERS = "rollcall:resolvers"
# The directory at which this computer reaches the CA in place of the configured one, and the CA of its TLS: the local clouds set both.
_URL, _TRUST = "ROLLCALL_ACME_URL", "ROLLCALL_CA_FILE"
_FIXES = {
    "unreachable": "Nothing was changed. Run `pulumi up` again when the certificate authority answers",
    "api-failing": "Nothing was changed. Run `pulumi up` again when the certificate authority works",
    "rate-limited": "Nothing was changed. Wait as it says, or use directory: letsencrypt-staging to try things out",
    "challenge-not-visible": "Nothing was changed. Check the name servers of the zone, then run `pulumi up` again",
}
_OTHER_FIX = "Nothing was changed. Correct what it names, then run `pulumi up` again"


class CertificateError(Exception):
    """A certificate was not issued or not revoked. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Challenges:
    """Where challenges are written: the `provider` of the zone, its id there, and its server (`ADDRESS@PORT`) if it has one."""

    provider: str
    zone: pulumi.Input[str]
    server: str = ""


class CertificateProvider(ResourceProvider):
    """Issues a certificate, renews it, and revokes it."""

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        keys = (*CLOUDFLARE_KEYS, TSIG_KEY, _RESOLVERS)
        self.config = {key: value for key in keys if (value := req.config.get(key)) is not None}

    def create(self, props: dict[str, Any]) -> CreateResult:
        from rollcall.acme_client import Bundle, key_hash

        made = Bundle(directory=props["directory"], since=0, until=0, key=new_key(), account=new_key(), chain="")
        bundle = self._issued(props, made, is_new=True)
        return CreateResult(f"{props['host']}/{key_hash(bundle.key)}", {**props, **_outputs(bundle)})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        found = {**props, "renewal": renewal(_bundle(props), time.time())}
        inputs = {name: found[name] for name in (*_INPUTS, "renewal")}
        return ReadResult(id_, found, inputs)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = [name for name in (*_INPUTS, "renewal") if _olds.get(name) != _news.get(name)]
        replaces = [name for name in changed if name in _REPLACING]
        return DiffResult(changes=bool(changed), replaces=replaces, stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        bundle = _bundle(_olds)
        if _olds.get("renewal"):
            try:
                bundle = self._renewed(_news, bundle)
            except CertificateError as failed:
                if bundle.left(time.time()) <= 0:
                    raise
                # The machines go on, and try to renew it themselves.
                Engine().say(f"{failed} The present certificate ends in {_days(bundle)}.", warning=True)
        return UpdateResult({**_news, **_outputs(bundle)})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Revoke the certificate, end its account, and remove its text from DNS."""
        from rollcall.acme_client import key_hash, pointers

        bundle, texts = _bundle(_props), self._texts(_props)
        own = key_hash(bundle.key)
        try:
            found = retried(lambda: pointers(texts.list()), _WITHIN_S)
            # A successor is there if the stack has made another key: then this one may have been stolen.
            reason = KEY_COMPROMISE if any(each.key != own for each in found) else CESSATION
            self._revoke(_props, bundle, [each.path for each in found if each.key == own], reason)
            for each in (one for one in found if one.key == own):
                texts.remove(each.text)
        except FatalError as refused:
            Engine().say(f"the certificate of {_props['host']}: was not revoked ({refused})", warning=True)
        except RollcallError as failed:
            fix = "Run `pulumi up` again, or give it up with `pulumi state delete`"
            raise CertificateError(
                f"{_key(_props)}: the old certificate was not revoked ({failed}). {fix}."
            ) from failed

    def _revoke(self, props: Mapping[str, Any], bundle: Bundle, paths: list[str], reason: int) -> None:
        client = self._client(bundle)

        def act() -> None:
            chains = [bundle.chain] if bundle.left(time.time()) > 0 else []
            chains += [chain for path in paths if (chain := client.download(path)) != bundle.chain]
            for chain in chains:
                client.revoke(chain, bundle.key, reason)
            client.deactivate()

        retried(act, _WITHIN_S)

    def _renewed(self, props: Mapping[str, Any], bundle: Bundle) -> Bundle:
        """Return the bundle with the certificate that a machine has got since, or with a new one."""
        from rollcall.acme_client import key_hash, pointers

        own = key_hash(bundle.key)
        try:
            texts = self._texts(props)
            found = retried(lambda: pointers(texts.list()), _WITHIN_S)
            later = [each for each in found if each.key == own and each.until > bundle.until]
            if later:
                client = self._client(bundle)
                taken = _with_chain(bundle, retried(lambda: client.download(later[-1].path), _WITHIN_S), props["host"])
                if taken.left(time.time()) > RENEW_AT:
                    return taken
        except RollcallError as failed:
            Engine().say(f"{_key(props)}: the machines' certificate cannot be read ({failed})", warning=True)
        return self._issued(props, bundle, is_new=False)

    def _issued(self, props: Mapping[str, Any], bundle: Bundle, *, is_new: bool) -> Bundle:
        from rollcall.acme_client import Pointer, challenge_host, key_hash, publish
        from rollcall.zoneview import ZoneView

        view = ZoneView(props["domain"], json.loads(self.config.get(_RESOLVERS) or "[]"))

        def answered(text: str) -> bool:
            return text in {each.strip('"') for each in view.all_of(challenge_host(props["host"]), "TXT")}

        client = self._client(bundle)
        try:
            texts = self._texts(props)
            if is_new:
                retried(lambda: client.register(props["email"]), _WITHIN_S)
            chain, path = retried(lambda: client.issue(bundle.key, props["host"], texts, answered), _WITHIN_S)
            made = _with_chain(bundle, chain, props["host"])
        except RollcallError as fault:
            raise CertificateError(_message(props, fault)) from fault
        try:
            pointer = Pointer(path=path, until=made.until, key=key_hash(made.key))
            retried(lambda: publish(texts, pointer), _WITHIN_S)
        except RollcallError as fault:
            # Nothing is raised any more: the certificate would be lost.
            Engine().say(f"{_key(props)}: the certificate is not in DNS ({fault})", warning=True)
        return made

    def _client(self, bundle: Bundle) -> Account:
        instead = os.environ.get(_URL, "")
        return Account(instead or bundle.directory, bundle.account, os.environ.get(_TRUST, "") if instead else "")

    def _texts(self, props: Mapping[str, Any]) -> Texts:
        from rollcall.acme_client import CloudflareTexts, Rfc2136Texts

        if props["server"]:
            return Rfc2136Texts(
                store_of(props["domain"], props["server"], tsig_key(self.config.get)).zone, props["host"]
            )
        from components.dns.cloudflare_store import RecordStore

        store = RecordStore(cloudflare_token(self.config.get), cloudflare_url(self.config.get))
        return CloudflareTexts(store, props["zone"], props["host"])


_INPUTS = ("site", "host", "domain", "directory", "email", "provider", "zone", "server")
_REPLACING = ("host", "directory")


def renewal(bundle: Bundle, now: float) -> str:
    """Return an empty text while there is time, or how long a new machine could serve the certificate that the stack has."""
    return "" if bundle.left(now) >= RENEW_AT else f"{_days(bundle, now)} left"


def _days(bundle: Bundle, now: float | None = None) -> str:
    left = max(bundle.until - (time.time() if now is None else now), 0)
    return f"{left / DAY_S:.0f} days" if left > DAY_S else f"{left / 3600:.0f} hours"


def _bundle(props: Mapping[str, Any]) -> Bundle:
    from rollcall.acme_client import Bundle

    return Bundle.parse(str(props["bundle"]))


def _outputs(bundle: Bundle) -> dict[str, Any]:
    return {"bundle": text_of(bundle), "word": bundle.word, "since": bundle.since, "until": bundle.until}


def _with_chain(bundle: Bundle, chain: str, host: str) -> Bundle:
    from dataclasses import replace

    from rollcall.acme_client import checked

    since, until = checked(chain, bundle.key, host)
    found = replace(bundle, chain=chain, since=since, until=until)
    size = len(text_of(found).encode())
    if size > LONGEST_BYTES:
        raise FatalError(
            f"reason=chain-too-long bytes={size} limit={LONGEST_BYTES} fix='use a CA with a shorter chain'"
        )
    return found


def _key(props: Mapping[str, Any]) -> str:
    return f"rollcall:sites.{props['site']}.tls"


def _message(props: Mapping[str, Any], fault: RollcallError) -> str:
    reason = str(fault).partition("reason=")[2].partition(" ")[0]
    kept = isinstance(fault, TransientError)
    fix = _FIXES.get(reason, _FIXES["unreachable"] if kept else _OTHER_FIX)
    return f"{_key(props)}: no certificate was issued for {props['host']} ({fault}). {fix}."


class Certificate(Resource, module="rollcall", name="Certificate"):  # type: ignore[call-arg]
    """The certificate of `host` in the zone `domain`, with its private key and its ACME account.

    `bundle` is a secret that machines get (rollcall.acme_client.Bundle). `word` changes with the certificate. `until` is
    its last second since 1970. `renewal` is empty until a third of its validity remains.
    """

    bundle: pulumi.Output[str]
    word: pulumi.Output[str]
    until: pulumi.Output[int]

    def __init__(
        self,
        name: str,
        *,
        site: str,
        host: str,
        domain: str,
        acme: AcmeSettings,
        challenges: Challenges,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "site": site, "host": host, "domain": domain, "directory": acme.url, "email": acme.email or "",
            "provider": challenges.provider, "zone": challenges.zone, "server": challenges.server, "renewal": "",
            "bundle": None, "word": None, "since": None, "until": None,
        }  # fmt: skip
        secret = pulumi.ResourceOptions(additional_secret_outputs=["bundle"])
        super().__init__(CertificateProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))
