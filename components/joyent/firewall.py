"""Create a FirewallRule of the account's cloud firewall. Rules are compared by their meaning, not by their text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.joyent.account_resources import Body, Fault, ThingField, ThingProvider, chosen
from components.joyent.session import Session

_SENT = ("rule", "enabled", "description", "log")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()=,]|[^\s()=,"]+')
_RULE = re.compile(r"\s*from\b.+\bto\b.+\b(allow|block)\b.+", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class FirewallRuleArgs:
    """The inputs of a FirewallRule.

    `rule`: as `FROM any TO tag "role" = "web" ALLOW tcp PORT 80`. `log` writes matches to the log, where that is
    offered.
    """

    rule: pulumi.Input[str]
    enabled: pulumi.Input[bool] = True
    description: pulumi.Input[str] | None = None
    log: pulumi.Input[bool] | None = None
    datacenter: pulumi.Input[str] | None = None


class FirewallRule(Resource, module="joyent", name="FirewallRule"):  # type: ignore[misc, call-arg]
    """A firewall rule. Everything changes in place, until the stack or the project is renamed.

    After that the old machines need the old rule, as long as they exist.
    """

    def __init__(self, name: str, args: FirewallRuleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        # A rule has no name: its description is the only place for the mark that finds an interrupted attempt.
        mark = f"[{pulumi.get_project()}/{pulumi.get_stack()}/{name}]"
        described = pulumi.Output.concat(args.description, " ", mark) if args.description is not None else mark
        props = {**vars(args), "description": described, "mark": mark}
        super().__init__(FirewallRuleProvider(), name, props, opts)


class _Rules:
    fields = (
        ThingField("rule", needed=True),
        ThingField("enabled", needed=True),
        ThingField("description"),
        ThingField("log"),
        ThingField("mark", "beside", hidden=True),
    )

    def faults(self, inputs: Body) -> Iterable[Fault]:
        if not _RULE.fullmatch(str(inputs["rule"])):
            yield "rule", f"{inputs['rule']!r} is not a rule. Write FROM … TO … ALLOW|BLOCK PROTOCOL …"
        if len(str(inputs.get("description", ""))) > 255:
            yield "description", "is over 255 characters with the resource's mark. Shorten it"

    def find(self, session: Session, inputs: Body) -> tuple[str, Body] | None:
        mark = str(inputs.get("mark") or "")
        for body in session.api.get("/fwrules") if mark else ():
            if str(body.get("description", "")).endswith(mark) and not body.get("global"):
                found = self.live(inputs, body)
                changed = [name for name in _SENT if found.get(name) != inputs.get(name)]
                return str(body["id"]), self.change(session, body["id"], inputs, changed) if changed else body
        return None

    def make(self, session: Session, inputs: Body) -> tuple[str, Body]:
        body = session.api.post("/fwrules", chosen(inputs, _SENT))
        return str(body["id"]), body

    def fetch(self, session: Session, id_: str, props: Body) -> Body:
        body: Body = session.api.get(f"/fwrules/{id_}")
        return body

    def live(self, inputs: Body, body: Body) -> Body:
        equal = meaning(str(inputs.get("rule", ""))) == meaning(str(body["rule"]))
        return {
            "rule": inputs["rule"] if equal else body["rule"],
            "enabled": bool(body.get("enabled")),
            "description": body.get("description", ""),
            "log": bool(body.get("log")),
        }

    def outputs(self, body: Body) -> Body:
        return {}

    def change(self, session: Session, id_: str, inputs: Body, changed: Iterable[str]) -> Body:
        body: Body = session.api.post(
            f"/fwrules/{id_}", chosen(inputs, [each for each in changed if each in _SENT]), idempotent=True
        )
        return body

    def remove(self, session: Session, id_: str, props: Body) -> None:
        session.api.delete(f"/fwrules/{id_}")


class FirewallRuleProvider(ThingProvider):
    kind = _Rules()


def meaning(rule: str) -> tuple[Any, ...]:
    """Return a rule without what does not matter: case of keywords, spacing, quotes, the order inside `( … OR … )`.

    FWAPI stores rules in a normal form, so the text differs from what it was given.
    """
    words = _TOKEN.findall(rule)
    tokens: list[str] = []
    value_follows = False
    for word in words:
        # The case of a tag's name and value matters; the case of everything else in a rule does not.
        cased = value_follows or word.startswith('"') or (tokens and tokens[-1] in ("tag", "="))
        tokens.append(word.strip('"') if cased else word.lower())
        value_follows = word == "="
    return _grouped(tokens)


def _grouped(tokens: list[str]) -> tuple[Any, ...]:
    parts: list[Any] = []
    at = 0
    while at < len(tokens):
        if tokens[at] == "(" and ")" in tokens[at:]:
            end = tokens.index(")", at)
            inner = " ".join(tokens[at + 1 : end])
            parts.append(tuple(sorted(re.split(r" (?:or|and) ", inner))))
            at = end
        else:
            parts.append(tokens[at])
        at += 1
    return tuple(parts)
