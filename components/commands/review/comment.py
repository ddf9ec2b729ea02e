"""Write a preview's findings as a Markdown comment for readers who are new: the same bytes for the same preview."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from components.commands.review.events import Preview
from components.commands.review.findings import Change, Findings, Fleet, code, findings_of
from components.registration.diff import Kind
from components.resources.fleets.revision import unseen_parts

# GitHub refuses a longer comment.
LIMIT = 65_536
_LINE, _MESSAGE, _PROPERTIES, _NAMES = 400, 6_000, 12, 100
_CUTS = (10_000, 1_000, 300, 100, 40, 15, 5, 2)
_LEFT_OUT = f"A comment on GitHub has at most {LIMIT:,} characters; the log of the job has all of them"
_KINDS = {
    Kind.MISSING: (
        "Missing from DNS",
        "the state has the machine, and it does not answer; `up` waits for it, and fails if it stays away",
    ),
    Kind.STALE: (
        "Stale in DNS",
        "the record has another value than its machine; the machine corrects it",
    ),
    Kind.LEFTOVER: (
        "Left over in DNS",
        "the machine of the record is gone; `up` removes the record",
    ),
    Kind.FOREIGN: (
        "Foreign in DNS",
        "this stack did not write it; Rollcall does not change it. Previews show it until the next `up`",
    ),
    Kind.ORPHANED: (
        "Orphaned machines",
        "the machine is in no state, and its cloud proves that this stack made it; `up` ends it",
    ),
    Kind.UNPROVEN: (
        "Unproven machines",
        "only its tags connect the machine with this stack, and it is in no state; `up` never ends it",
    ),
}


_VANISHED = "**Gone from their cloud** ({}): the state has them, and their cloud does not; `up` creates them again."
_OTHER_RELEASES = (
    "**Other releases** ({}): these machines do not have the release of their fleet; `up` gives it to them."
)
_BY_HAND = "**Changed by hand** ({}): `up` restores what the program says."


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the comment. `lines` may be cut to fit, `head` may not. One of `lines` may be several that belong together.

    `folded`: the reader must click to see it.
    """

    title: str
    lines: tuple[str, ...]
    head: tuple[str, ...] = ()
    folded: bool = False

    def shown(self, most: int) -> str:
        lines = [*self.head, *self.lines[:most]]
        if len(self.lines) > most:
            lines += ["", f"… and {len(self.lines) - most} more. {_LEFT_OUT}."]
        body = "\n".join(lines)
        if self.folded:
            return f"<details><summary>{self.title}</summary>\n\n{body}\n\n</details>\n"
        return "\n\n".join(each for each in (f"#### {self.title}" if self.title else "", body) if each) + "\n"


def marker(stack: str) -> str:
    """Return the text by which a later run finds its comment."""
    return f"<!-- rollcall-review: {stack} -->"


def commented(preview: Preview, *, stack: str, limit: int = LIMIT) -> str:
    """Return the comment, at most `limit` characters. It says what it leaves out."""
    found = findings_of(preview)
    sections = _sections(found)
    for most in _CUTS:
        text = "\n".join([marker(stack), *_top(found, stack), *(each.shown(most) for each in sections), _FOOT, ""])
        if len(text) <= limit:
            return text
    raise AssertionError("a comment of headings alone is longer than a comment may be")


_FOOT = "<sub>Written by `python -m components.commands.review`; docs/review.md says how to read it.</sub>"


def _top(found: Findings, stack: str) -> list[str]:
    return [f"### Preview of stack `{stack}`: {headline(found)}", "", _meaning(found), ""]


def headline(found: Findings) -> str:
    """Say what will happen, in words and counts."""
    if found.failed:
        return "it fails"
    parts = []
    for word, verb in (("comes", "come"), ("goes", "go"), ("replaced", "are replaced"), ("changed", "change in place")):
        number = sum(len(getattr(fleet, word)) for fleet in found.fleets)
        one = {"come": "comes", "go": "goes", "are replaced": "is replaced", "change in place": "changes in place"}[
            verb
        ]
        if number:
            parts.append(f"{number} machine{'' if number == 1 else 's'} {one if number == 1 else verb}")
    if found.dns:
        parts.append(f"{len(found.dns)} DNS {'setting changes' if len(found.dns) == 1 else 'settings change'}")
    if found.releases:
        parts.append(f"{len(found.releases)} release{' rolls' if len(found.releases) == 1 else 's roll'} out in place")
    number = sum(map(len, found.differences.values()))
    number += len(found.by_hand) + len(found.vanished) + len(found.other_releases)
    if number:
        parts.append(
            f"{number} difference{' was' if number == 1 else 's were'} found between the state and the clouds or DNS"
        )
    if parts:
        return ", ".join(parts)
    return "small changes only" if found.changes else "nothing changes"


def _meaning(found: Findings) -> str:
    if found.errors:
        return "**This change cannot be deployed.** Nothing was changed. The errors are below."
    if not found.finished:
        return "**The preview stopped early**, so this comment is not complete. Run it again before you approve."
    if not found.changes:
        return "The state, the machines and DNS agree with the program."
    counts = ", ".join(f"{number} {verb}" for verb, number in found.counts.items() if number)
    sentences = [f"In total: {counts or 'no'} resources." if counts else "No resource is created, changed or deleted."]
    if found.drifted:
        sentences.append("The state already differs from the clouds or DNS **without this change**: check that first.")
    return " ".join(sentences)


def _sections(found: Findings) -> list[Section]:
    sections = []
    if found.errors:
        sections.append(Section(title="Errors and their fixes", lines=tuple(_blocks(found.errors))))
    if found.dangers:
        lines = tuple(f"- {each}" for each in dict.fromkeys(found.dangers))
        sections.append(Section(title="Check this before you approve", lines=lines))
    if found.drifted:
        sections += _drift(found)
    moving = [fleet for fleet in found.fleets if fleet.moves]
    if moving and not found.failed:
        sections += _machines(found.fleets)
    if found.releases and not found.failed:
        sections.append(
            Section(title="Releases in place", lines=tuple(f"- {code(each, _LINE)}" for each in found.releases))
        )
    if found.dns:
        sections.append(Section(title="DNS that Pulumi changes", lines=tuple(_listed(found.dns))))
    if found.others:
        number = len(found.others)
        title = f"{number} other resource{'' if number == 1 else 's'}"
        sections.append(Section(title=title, lines=tuple(_listed(found.others)), folded=True))
    if found.warnings:
        sections.append(
            Section(title=f"Warnings ({len(found.warnings)})", lines=tuple(_blocks(found.warnings)), folded=True)
        )
    return sections


def _machines(fleets: Sequence[Fleet]) -> list[Section]:
    head = (
        "| fleet | cloud | now | come | go | replaced | in place | at the peak | after |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    )
    rows = [_row(f"`{fleet.name}`", fleet.cloud, [fleet]) for fleet in fleets]
    if len(fleets) > 1:
        rows.append(_row("all", "", fleets))
    names = [
        f"- `{fleet.name}` {word}: {_named(getattr(fleet, key))}"
        for fleet in fleets
        for key, word in (
            ("comes", "come"),
            ("goes", "go"),
            ("replaced", "are replaced"),
            ("changed", "change in place"),
        )
        if getattr(fleet, key)
    ]
    names += [f"- `{fleet.name}` is replaced because {_reason_of(fleet)}" for fleet in fleets if fleet.replaced]
    return [
        Section(title="Machines", head=head, lines=tuple(rows)),
        Section(title="", lines=tuple(names)),
        Section(title="In this order", lines=tuple(_order(fleets))),
        Section(title="DNS records of machines", lines=tuple(_record_lines(fleets))),
    ]


def _named(machines: Sequence[str]) -> str:
    """Return a list of machines of limited length: a line is never cut, and a fleet may have a thousand."""
    more = f" and {len(machines) - _NAMES} more" if len(machines) > _NAMES else ""
    return ", ".join(f"`{each}`" for each in machines[:_NAMES]) + more


def _reason_of(fleet: Fleet) -> str:
    """Say which inputs replace a machine; where none changes, which parts of it do (components/resources/fleets/revision.py)."""
    changes = [f"{code(each.path)} changes: {code(each.before)} → {code(each.after)}" for each in fleet.because]
    return "; ".join(changes) or f"{unseen_parts()} change"


def _row(name: str, cloud: str, fleets: Sequence[Fleet]) -> str:
    def total(of: Callable[[Fleet], int]) -> int:
        return sum(of(fleet) for fleet in fleets)

    cells = [
        total(lambda each: each.before),
        total(lambda each: len(each.comes)),
        total(lambda each: len(each.goes)),
        total(lambda each: len(each.replaced)),
        total(lambda each: len(each.changed)),
        total(lambda each: each.peak),
        total(lambda each: each.after),
    ]
    return f"| {name} | {cloud} | {' | '.join(map(str, cells))} |"


def _order(fleets: Sequence[Fleet]) -> Iterable[str]:
    """Describe the order of a roll call (docs/architecture.md): new machines answer before any machine leaves."""
    made = sum(len(fleet.comes) + len(fleet.replaced) for fleet in fleets)
    leave = sum(len(fleet.goes) + len(fleet.replaced) for fleet in fleets)
    steps = []
    if made:
        successors = sum(len(fleet.replaced) for fleet in fleets)
        among = f", {successors} of them successors" if successors else ""
        steps.append(f"{made} new machine{' is' if made == 1 else 's are'} created{among}.")
        timeout = max((fleet.timeout for fleet in fleets if fleet.comes or fleet.replaced), default=0)
        steps.append(
            f"Roll call: every machine of every fleet must answer in DNS, within {timeout} s. "
            "If one does not, `up` fails and no machine leaves."
        )
    if leave:
        drain_delay = max((fleet.drain_delay for fleet in fleets if fleet.goes or fleet.replaced), default=0)
        one = leave == 1
        steps.append(
            f"{leave} machine{' is' if one else 's are'} asked to leave DNS. When {'its' if one else 'their'} records are gone, "
            f"{'it serves' if one else 'they serve'} for the TTL or for `drainDelay` ({drain_delay} s), whichever is shorter."
        )
        steps.append(
            f"{'It is deleted, and its' if one else 'They are deleted, and their'} leftover records are removed."
        )
    if not steps:
        steps.append("Machines read their new settings within 10 s. None is created and none leaves.")
    return [f"{number}. {text}" for number, text in enumerate(steps, 1)]


def _record_lines(fleets: Sequence[Fleet]) -> Iterable[str]:
    for key in sorted({each for fleet in fleets for each in (*fleet.sets_before, *fleet.sets_after)}):
        here = [fleet for fleet in fleets if key in fleet.sets_before and key in fleet.sets_after]
        before = sum(fleet.before for fleet in fleets if key in fleet.sets_before)
        after = sum(fleet.after for fleet in fleets if key in fleet.sets_after)
        renewed = sum(len(fleet.replaced) for fleet in here)
        if before != after or renewed:
            again = f", {renewed} of them successors" if renewed else ""
            yield f"- {code(str(key))}: {before} machine{'' if before == 1 else 's'} now, {after} afterwards{again}"


def _drift(found: Findings) -> list[Section]:
    sections = [Section(title="Differences from the state, without this change", lines=())]
    for kind, (title, meaning) in _KINDS.items():
        lines = found.differences[kind]
        if lines:
            lines_of_kind = tuple(f"- `{fleet}`: {code(line, _LINE)}" for fleet, line in lines)
            sections.append(
                Section(title="", head=(f"**{title}** ({len(lines)}): {meaning}.", ""), lines=lines_of_kind)
            )
    if found.other_releases:
        others = tuple(f"- `{fleet}`: {code(line, _LINE)}" for fleet, line in found.other_releases)
        sections.append(Section(title="", head=(_OTHER_RELEASES.format(len(others)), ""), lines=others))
    for title, changes in ((_VANISHED, found.vanished), (_BY_HAND, found.by_hand)):
        if changes:
            head = (title.format(len(changes)), "")
            sections.append(Section(title="", head=head, lines=tuple(_listed(changes))))
    return sections


def _listed(changes: Iterable[Change]) -> Iterable[str]:
    for each in changes:
        lines = [f"- {each.verb}: {code(each.title)} ({_short(each.type)})"]
        for one in each.properties[:_PROPERTIES]:
            lines.append(f"  - {code(one.path)}: {code(one.before) or 'nothing'} → {code(one.after) or 'nothing'}")
        if len(each.properties) > _PROPERTIES:
            lines.append(f"  - … and {len(each.properties) - _PROPERTIES} more properties")
        yield "\n".join(lines)


def _short(type_: str) -> str:
    """Shorten a type for people, as `aws:route53/record:Record`."""
    package, _, kind = type_.partition(":")
    return f"{package.removeprefix('pulumi-python')} {kind.rpartition(':')[2]}".strip()


def _blocks(messages: Iterable[str]) -> Iterable[str]:
    for message in messages:
        cut = message if len(message) <= _MESSAGE else f"{message[:_MESSAGE]}\n… ({len(message):,} characters)"
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", cut) or [""]))
        yield f"{fence}text\n{cut}\n{fence}"
