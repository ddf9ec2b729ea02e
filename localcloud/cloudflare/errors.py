"""What Cloudflare's v4 API refuses, with the status, code and text that the real one answers.

Cloudflare publishes no list of its codes. Those here were seen in replies of the real API that users of it quote (each
group names where); a rule of which no reply could be found answers `DNS_VALIDATION`, the API's own general code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DNS_VALIDATION = 1004
_SAME_NAME = "https://developers.cloudflare.com/dns/manage-dns-records/troubleshooting/records-with-same-name/"
_MX = "https://developers.cloudflare.com/dns/manage-dns-records/how-to/email-records/#add-mx-records"


@dataclass
class ApiError(Exception):
    """A refusal: `chain` is the `error_chain` of the first error, `headers` go with the reply."""

    status: int
    code: int
    message: str
    chain: tuple[tuple[int, str], ...] = ()
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> list[dict[str, Any]]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.chain:
            error["error_chain"] = [{"code": code, "message": message} for code, message in self.chain]
        return [error]


def refused(code: int, message: str) -> ApiError:
    return ApiError(400, code, message)


# DNS records: external-dns issues 2410, 3706 and 5898, cfdns pull 17, dnscontrol issue 4776, ddns-go issue 1557,
# cloudflare-tunnel-ingress-controller issue 168, manage.get.gov issue 5244, cloudflare-ddns issue 179.
def address_or_cname_exists() -> ApiError:
    return refused(
        81053,
        f"An A, AAAA, or CNAME record with that host already exists. For more details, refer to <{_SAME_NAME}>.",
    )


def cname_exists() -> ApiError:
    return refused(81054, f"A CNAME record with that host already exists. For more details, refer to <{_SAME_NAME}>.")


def ns_exists() -> ApiError:
    return refused(81056, "NS records with that host already exist.")


def record_exists() -> ApiError:
    return refused(81057, "The record already exists.")


def identical_record() -> ApiError:
    return refused(81058, "An identical record already exists.")


def no_such_record() -> ApiError:
    return ApiError(404, 81044, "Record does not exist.")


def quota_exceeded() -> ApiError:
    return refused(81045, "Record quota exceeded.")


def bad_name() -> ApiError:
    return refused(9000, "DNS name is invalid.")


def target_not_proxiable(target: str) -> ApiError:
    return refused(9003, f"Target {target} is not allowed for a proxied record.")


def type_not_proxiable() -> ApiError:
    return refused(9004, "This record type cannot be proxied.")


def bad_ipv4() -> ApiError:
    return refused(9005, "Content for A record must be a valid IPv4 address.")


def bad_ipv6() -> ApiError:
    return refused(9006, "Content for AAAA record must be a valid IPv6 address.")


def bad_cname() -> ApiError:
    return refused(9007, "Content for CNAME record is invalid.")


def bad_mx() -> ApiError:
    return refused(
        9009,
        "Change the content of your MX record to be a hostname (and not an IP address). "
        f"For more details, refer to <{_MX}>.",
    )


def bad_type() -> ApiError:
    return refused(9020, "Invalid DNS record type")


def too_long() -> ApiError:
    return refused(9015, "Record content exceeds the allowed length of 4096 wire format bytes.")


def set_too_long() -> ApiError:
    return refused(83011, "Combined content length of records with this name and type must not exceed 8192 characters.")


def bad_ttl() -> ApiError:
    return refused(9021, "TTL must be between 60 and 86400 seconds, or 1 for Automatic.")


def cname_to_itself() -> ApiError:
    return refused(9039, "CNAME content cannot reference itself.")


def field_required(name: str) -> ApiError:
    return refused(9100, f"{name} is a required field.")


def data_field_required(name: str) -> ApiError:
    return refused(9101, f"{name} is a required data field.")


def unreadable_body() -> ApiError:
    return refused(9207, "Failed to parse request body, content-type must be application/json")


def too_many_tags(count: int, quota: int) -> ApiError:
    return refused(9300, f"DNS record has {count} tags, exceeding the quota of {quota}.")


def comment_too_long(limit: int) -> ApiError:
    return refused(9313, f"DNS record comment exceeds the maximum length of {limit} characters.")


def invalid(what: str) -> ApiError:
    """Return the error for a rule with an unknown code."""
    return ApiError(400, DNS_VALIDATION, "DNS Validation Error", ((DNS_VALIDATION, what),))


# Zones and their settings: tezos-on-gke issue 3, terraform-provider-cloudflare issues 1787 and 1810,
# pulumi-cloudflare issue 1319, cloudflare-ddns-updater issue 61.
def zone_exists(name: str) -> ApiError:
    return refused(1061, f"{name} already exists")


def no_such_zone() -> ApiError:
    return ApiError(404, 1001, "Invalid zone identifier")


def no_route(path: str) -> ApiError:
    return ApiError(404, 7003, f"Could not route to {path}, perhaps your object identifier is invalid?")


def not_emulated(method: str, path: str) -> ApiError:
    """Return the error for an operation that only the real API has.

    It is not 404, which a client would read as a missing object, and not a server error, which a client would retry. Cloudflare does not
    use this code.
    """
    return ApiError(400, 10501, f"The local Cloudflare does not emulate {method} {path}")


def unknown_setting(name: str) -> ApiError:
    return refused(1006, f"Unrecognized zone setting name: {name}")


def bad_setting(name: str) -> ApiError:
    return refused(1007, f"Invalid value for zone setting {name}")


def setting_not_editable(name: str) -> ApiError:
    return ApiError(403, 1015, f"Not allowed to edit setting for {name}")


# Authentication: ddns-go issue 916, acme.sh issue 6435, terraform-provider-cloudflare issue 3227; rate limit: the replies
# recorded in octoDNS's tests.
def no_credentials() -> ApiError:
    return ApiError(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")


def bad_authorization() -> ApiError:
    return ApiError(400, 6003, "Invalid request headers", ((6111, "Invalid format for Authorization header"),))


def bad_auth_key() -> ApiError:
    return ApiError(400, 6003, "Invalid request headers", ((6103, "Invalid format for X-Auth-Key header"),))


def unknown_token() -> ApiError:
    return ApiError(401, 1000, "Invalid API Token")


def invalid_access_token() -> ApiError:
    return ApiError(403, 9109, "Invalid access token")


def wrong_location(address: str) -> ApiError:
    return ApiError(403, 9109, f"Cannot use the access token from location: {address}")


def authentication_error() -> ApiError:
    return ApiError(403, 10000, "Authentication error")


def unauthorized() -> ApiError:
    return ApiError(403, 9109, "Unauthorized to access requested resource")


def bad_token(message: str) -> ApiError:
    return refused(1001, message)


def no_such_token() -> ApiError:
    return ApiError(404, 1003, "API Token does not exist")


def throttled(limit: int, seconds: float, retry_after: int) -> ApiError:
    message = (
        f"More than {limit} requests per {seconds:g} seconds reached. "
        "Please wait and consider throttling your request speed"
    )
    return ApiError(429, 10100, message, headers={"Retry-After": str(retry_after)})
