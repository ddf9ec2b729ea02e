"""Use ACME as the stack's program does: it makes keys and accounts, and revokes. Machines only renew (rollcall.acme_client)."""

from __future__ import annotations

from rollcall.acme_client import Bundle, Client

# RFC 5280 section 5.3.1
KEY_COMPROMISE, CESSATION = 1, 5


def new_key() -> str:
    """Return a new private key on P-256."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*form).decode()


def text_of(bundle: Bundle) -> str:
    """Return a bundle as machines get it. `Bundle.parse` reads it."""
    return f"acme {bundle.directory} {bundle.since} {bundle.until}\n{bundle.key}{bundle.account}{bundle.chain}"


class Account(Client):
    """An ACME account of the stack."""

    def register(self, email: str) -> None:
        """Create the account, and agree to the CA's terms of service."""
        with self.understood("account"):
            made, messages = self.open()
            contact = {"email": email} if email else {}
            made.new_account(messages.NewRegistration.from_data(terms_of_service_agreed=True, **contact))
            self.client = made

    def revoke(self, chain: str, key: str, reason: int) -> None:
        """Revoke a certificate, with its own key as the proof (RFC 8555 section 7.6)."""
        from cryptography import x509

        with self.understood("revocation"):
            client, messages = self.open(key)
            try:
                client.revoke(x509.load_pem_x509_certificate(chain.encode()), reason)
            except messages.Error as refused:
                if refused.code != "alreadyRevoked":
                    raise

    def deactivate(self) -> None:
        """End the account, so that its key is useless (RFC 8555 section 7.3.6)."""
        with self.understood("deactivation"):
            client = self.opened()
            client.deactivate_registration(client.net.account)
