"""Serve several accounts at one address, as AWS does: the access key that signs a request selects the account."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from localcloud.aws.app import Aws, key_id_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Accounts:
    """A WSGI app. The first account refuses a key that is in no account."""

    def __init__(self, *accounts: Aws) -> None:
        self._accounts = accounts
        for each in accounts:
            each.beside(accounts)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        key_id = key_id_of(environ)
        account = next((each for each in self._accounts if each.knows(key_id)), self._accounts[0])
        return account.app(environ, start_response)
