"""moto's backends of one account, loaded late and small.

Its Flask server is not used: the response classes are called with a request, which is what that server does. Instance types
are kept for the regions that the local AWS has: all regions of the world took 100 MiB.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from localcloud.aws import filters
from localcloud.aws.catalogue import REGIONS
from localcloud.aws.operations import not_emulated
from localcloud.aws.wire import AwsError, Call, Reply

_log = logging.getLogger(__name__)
_CLASSES = {
    "ec2": ("moto.ec2.responses", "EC2Response"),
    "iam": ("moto.iam.responses", "IamResponse"),
    "ssm": ("moto.ssm.responses", "SimpleSystemManagerResponse"),
}
_OFFERINGS = "ec2/resources/instance_type_offerings/"
_TYPES = "ec2/resources/instance_types.json"
_loading = threading.Lock()


def load() -> None:
    """Import moto's EC2, IAM and SSM, with no images and only our regions' instance types. Once a process."""
    with _loading:
        if "moto.ec2.models.instance_types" in sys.modules:
            return
        settings: Any = importlib.import_module("moto.settings")
        utilities: Any = importlib.import_module("moto.utilities.utils")
        # The catalogue is ours (localcloud.aws.catalogue).
        settings.ec2_load_default_amis = lambda: False
        original = utilities.load_resource

        def smaller(resource: str) -> Any:
            name = resource.replace("\\", "/")
            if _OFFERINGS in name:
                return original(resource) if name.rpartition("/")[2].partition(".")[0] in REGIONS else []
            if name == _TYPES:
                offers = [each for region in REGIONS for each in original(f"{_OFFERINGS}region/{region}.json")]
                offered = {each["InstanceType"] for each in offers}
                return {key: value for key, value in original(resource).items() if key in offered}
            return original(resource)

        utilities.load_resource = smaller
        try:
            with _descriptions_read_once():
                importlib.import_module("moto.ec2.models.instance_types")
        finally:
            utilities.load_resource = original
        filters.install()


@contextlib.contextmanager
def _descriptions_read_once() -> Iterator[None]:
    """moto asks three new sessions for the regions of EC2, and each reads the whole description of EC2's API for that."""
    files: Any = importlib.import_module("botocore.loaders").JSONFileLoader
    original = files.load_file
    known: dict[str, Any] = {}

    def once(loader: Any, path: str) -> Any:
        if path not in known:
            known[path] = original(loader, path)
        return known[path]

    files.load_file = once
    try:
        yield
    finally:
        files.load_file = original


class Moto:
    """One account's region in moto. Every call into it goes through `lock`, because moto is not thread-safe; all regions of an
    account have the same one."""

    def __init__(self, account: str, region: str, lock: threading.RLock) -> None:
        load()
        self.account = account
        self.region = region
        self.lock = lock

    @property
    def iam(self) -> Any:
        return importlib.import_module("moto.iam.models").iam_backends[self.account]["aws"]

    @property
    def ssm(self) -> Any:
        return importlib.import_module("moto.ssm.models").ssm_backends[self.account][self.region]

    @property
    def ec2(self) -> Any:
        return importlib.import_module("moto.ec2.models").ec2_backends[self.account][self.region]

    def answer(self, call: Call, body: bytes | None = None) -> Reply:
        """Return moto's answer to this request (with another body, if given). Raises AwsError for what moto cannot do."""
        request_class = importlib.import_module("moto.core.request").Request
        module, name = _CLASSES[call.service]
        responder = getattr(importlib.import_module(module), name)
        sent = call.body if body is None else body
        # POST, so that a GET's query is read as the same form.
        request = request_class.from_primitives("POST", self._url(call), self._headers(call, sent), sent)
        with self.lock:
            try:
                status, headers, text = responder.dispatch(request)
            except NotImplementedError as lacking:
                _log.warning("the local %s lacks %s: %s", call.service, call.action, lacking)
                raise not_emulated(call, _lacking(str(lacking))) from lacking
            except AwsError:
                raise
            except Exception as broken:
                # Log where it happened, but neither the request nor the error's text: both may contain secrets.
                where = "".join(traceback.format_tb(broken.__traceback__))
                _log.error("moto failed at %s of %s: %s\n%s", call.action, call.service, type(broken).__name__, where)
                raise not_emulated(call, "it fails at this request; its log says where") from broken
        content = str(headers.get("Content-Type") or headers.get("content-type") or "text/xml;charset=UTF-8")
        return Reply(
            status=int(status), body=text.encode() if isinstance(text, str) else bytes(text), content_type=content
        )

    def _url(self, call: Call) -> str:
        host = (
            f"{call.service}.amazonaws.com" if call.service == "iam" else f"{call.service}.{self.region}.amazonaws.com"
        )
        return f"https://{host}/"

    def _headers(self, call: Call, body: bytes) -> Mapping[str, str]:
        headers = {"x-moto-account-id": self.account, "Content-Length": str(len(body))}
        headers["Content-Type"] = call.headers.get("content-type") or "application/x-www-form-urlencoded; charset=utf-8"
        for name in ("x-amz-target", "authorization", "user-agent"):
            if name in call.headers:
                headers[name] = call.headers[name]
        return headers

    def forget(self) -> None:
        """Drop everything of this account."""
        for service in ("ec2", "iam", "ssm"):
            backends = getattr(importlib.import_module(f"moto.{service}.models"), f"{service}_backends")
            backends.pop(self.account, None)


def _lacking(text: str) -> str:
    """Return moto's text about what it does not have, without its advice to open an issue."""
    name = re.search(r"'([^']+)'", text) if "filter" in text.lower() else None
    return f"it has no filter '{name[1]}'" if name else "it has no such operation"
