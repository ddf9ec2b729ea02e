"""Firewall rules of the account (lib/rules.js)."""

from __future__ import annotations

from typing import Any

from localcloud.triton import firewall
from localcloud.triton.call import Call, Reply
from localcloud.triton.errors import invalid_argument, missing_parameter, not_found
from localcloud.triton.firewall import Rule


def list_rules(call: Call) -> Reply:
    return Reply(200, [rule.body() for rule in call.store.rules.values()])


def get_rule(call: Call) -> Reply:
    return Reply(200, _rule(call).body())


def create(call: Call) -> Reply:
    if not call.params.get("rule"):
        raise missing_parameter("rule is a required argument")
    rule = Rule(
        firewall.parse(call.params["rule"]),
        _switch(call, "enabled"),
        _switch(call, "log"),
        _description(call.params.get("description")),
    )
    call.store.rules[rule.id] = rule
    return Reply(201, rule.body(), {"Location": f"/{call.store.login}/fwrules/{rule.id}"})


def update(call: Call) -> Reply:
    """Changes what is given and leaves the rest."""
    rule, params = _changeable(call), call.params
    parsed = firewall.parse(params["rule"]) if "rule" in params else rule.parsed
    enabled = _switch(call, "enabled") if "enabled" in params else rule.enabled
    log = _switch(call, "log") if "log" in params else rule.log
    description = _description(params["description"]) if "description" in params else rule.description
    rule.parsed, rule.enabled, rule.log, rule.description = parsed, enabled, log, description
    return Reply(200, rule.body())


def enable(call: Call) -> Reply:
    rule = _changeable(call)
    rule.enabled = True
    return Reply(200, rule.body())


def disable(call: Call) -> Reply:
    rule = _changeable(call)
    rule.enabled = False
    return Reply(200, rule.body())


def delete(call: Call) -> Reply:
    del call.store.rules[_changeable(call).id]
    return Reply(204)


def rule_machines(call: Call) -> Reply:
    parsed = _rule(call).parsed
    shown = [machine.body() for machine in call.store.alive() if parsed.covers(machine)]
    return Reply(200, shown, {"x-resource-count": str(len(shown))})


def machine_rules(call: Call) -> Reply:
    found = firewall.covering(call.store.rules.values(), call.machine())
    return Reply(200, [rule.body() for rule in found])


def _rule(call: Call) -> Rule:
    rule = call.store.rules.get(call.path["id"])
    if rule is None:
        raise not_found("rule not found")
    return rule


def _changeable(call: Call) -> Rule:
    rule = _rule(call)
    if rule.common:
        raise invalid_argument("global rules cannot be modified")
    return rule


def _switch(call: Call, name: str) -> bool:
    value = call.params.get(name) or False
    if value not in (True, False, "true", "false"):
        raise invalid_argument(f"{name} must be true or false")
    return value in (True, "true")


def _description(value: Any) -> str:
    if value is not None and (not isinstance(value, str) or len(value) > 255):
        raise invalid_argument("description must be a string of at most 255 characters")
    return value or ""
