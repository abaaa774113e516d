"""What the gateway told, as text for a person at a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_DOUBT_COLUMNS: Final = {
    "deliveryId": "DELIVERY",
    "messageId": "MESSAGE",
    "sender": "SENDER",
    "channel": "CHANNEL",
    "provider": "PROVIDER",
    "reason": "REASON",
    "since": "SINCE",
    "canBeDecided": "CAN BE DECIDED",
}
_LATE_COLUMNS: Final = {
    "deliveryId": "DELIVERY",
    "messageId": "MESSAGE",
    "sender": "SENDER",
    "channel": "CHANNEL",
    "provider": "PROVIDER",
    "status": "STATUS",
    "owner": "OWNER",
    "nextAction": "NEXT",
    "since": "SINCE",
    "lateSeconds": "LATE (S)",
    "canBeDecided": "CAN BE DECIDED",
}
_ERASURES: Final = {
    "copies": "messages whose documents are past their date of erasure",
    "blobs": "documents without a key whose blob is still there",
}
_DELIVERY_COLUMNS: Final = {
    "number": "NO",
    "deliveryId": "DELIVERY",
    "channel": "CHANNEL",
    "provider": "PROVIDER",
    "status": "STATUS",
    "reason": "REASON",
    "attempts": "ATTEMPTS",
    "nextAction": "NEXT",
    "dueAt": "DUE",
}
_TIMELINE_COLUMNS: Final = {
    "at": "AT",
    "event": "EVENT",
    "result": "RESULT",
    "number": "NO",
    "channel": "CHANNEL",
    "reason": "REASON",
}
_QUEUE_COLUMNS: Final = {"channel": "CHANNEL", "action": "ACTION", "count": "COUNT", "oldestDueAt": "OLDEST DUE"}
_SENDER_COLUMNS: Final = {
    "enterpriseNumber": "NUMBER",
    "name": "NAME",
    "active": "ACTIVE",
    "profiles": "PROFILES",
    "certificates": "CERTIFICATES",
    "suspendedAt": "SUSPENDED",
    "suspendedBecause": "BECAUSE",
}
_STANDING: Final = {
    "status": "delivery",
    "messageStatus": "message",
    "nextAction": "next",
    "dueAt": "due",
    "reason": "reason",
}


def doubts(body: Mapping[str, Any]) -> str:
    """Return the deliveries that wait for a person."""
    return _listed(body["doubts"], body["total"], _DOUBT_COLUMNS, none="no delivery waits for a decision")


def late(body: Mapping[str, Any]) -> str:
    """Return what is past its deadline, who owes the next step, and what an operator may do."""
    rows = body["late"]
    lines = [_listed(rows, body["total"], _LATE_COLUMNS, none="no delivery is late")]
    advice = dict.fromkeys((row.get("owner"), row.get("nextAction"), row.get("advice")) for row in rows)
    lines += [
        f"{_cell(owner)}, {_cell(action)}: {_cell(words)}" for owner, action, words in advice if words is not None
    ]
    for what, each in body["erasures"].items():
        if each["count"]:
            lines.append(
                f"{_ERASURES[what]}: {_cell(each['count'])}, the oldest since {_cell(each['oldestDueAt'])}; "
                f"{_cell(each['owner'])}: {_cell(each['advice'])}"
            )
        lines += [f"  message {_cell(row['messageId'])} of {_cell(row['sender'])}" for row in each.get("messages", ())]
    return "\n".join(lines)


def decided(body: Mapping[str, Any]) -> str:
    """Return what a decision changed, or would change."""
    head = "would become" if body["dryRun"] else "has become"
    rows = [
        {"what": name, "before": body["before"][key], "after": body["after"][key]} for key, name in _STANDING.items()
    ]
    lines = [
        f"delivery {_cell(body['deliveryId'])} of message {_cell(body['messageId'])} {head}:",
        _table(rows, {"what": "", "before": "BEFORE", "after": "AFTER"}),
    ]
    if body["nextChannel"] is not None:
        lines.append(f"next channel: {_cell(body['nextChannel'])}")
    if body["dryRun"]:
        lines.append("nothing was changed (dry run)")
    return "\n".join(lines)


def message(body: Mapping[str, Any]) -> str:
    """Return one message with its deliveries and timeline."""
    facts = {
        "message": body["messageId"],
        "sender": f"{body['sender']} ({body['profile']})",
        "reference": body["reference"],
        "category": body["category"],
        "status": body["status"],
        "accepted": body["acceptedAt"],
        "deliver before": body["deliverBefore"],
        "documents": body["documents"],
        "copy": f"{body['copy']['state']} {body['copy']['until'] or ''}".rstrip(),
    }
    return "\n".join(
        [
            _facts(facts),
            "",
            _table(body["deliveries"], _DELIVERY_COLUMNS),
            "",
            _table(body["timeline"], _TIMELINE_COLUMNS),
        ]
    )


def status(body: Mapping[str, Any]) -> str:
    """Return what runs and how much is to be done."""
    versions = ", ".join(f"{name} {version}" for name, version in body["versions"].items())
    facts = {
        "gateway": body["gateway"],
        "versions": versions,
        "registration": f"version {body['registrationVersion']}",
        "up since": f"{body['startedAt']} ({body['uptimeSeconds']} s)",
        "to decide": body["toDecide"],
        "late": body["late"],
        "late erasures": body["lateErasures"],
    }
    return "\n".join([_facts(facts), "", _table(body["queues"], _QUEUE_COLUMNS)])


def senders(body: Mapping[str, Any]) -> str:
    """Return who is registered, and who is suspended."""
    rows = body["senders"]
    none = "no sender is registered"
    return f"registration {body['registrationVersion']}\n" + _listed(rows, len(rows), _SENDER_COLUMNS, none=none)


def compared(body: Mapping[str, Any]) -> str:
    """Return what putting the registration files in force would change."""
    before, after = body["registrationInForce"], body["registrationAfter"]
    if before == after:
        return f"the files are those of registration {before}, which is in force"
    lines = [*_changes(body), f"registration {before} would become {after}, digest {_cell(body['digest'])}"]
    lines += _needs(body)
    return "\n".join(lines)


def applied(body: Mapping[str, Any]) -> str:
    """Return what changed when files were put in force, or would change."""
    before, after = body["registrationInForce"], body["registrationAfter"]
    if before == after and not body["changes"]:
        return f"nothing to change: what the files say is in force (registration {before})"
    if body.get("dryRun"):
        return "\n".join([*_changes(body), *_needs(body), "nothing was changed (dry run)"])
    told = f"registration {after} is in force" + ("" if before == after else f", after {before}")
    return "\n".join([*_changes(body), told])


def suspended(body: Mapping[str, Any]) -> str:
    """Return that a sender is suspended, or no longer."""
    who = f"{_cell(body['enterpriseNumber'])} {_cell(body['name'])}"
    if not body["suspended"]:
        return f"{who}: resumed"
    return f"{who}: suspended; {_cell(body['connectionsClosed'])} connections closed"


def problem(body: Mapping[str, Any]) -> str:
    """Return why the gateway refused."""
    lines = [f"refused: {_cell(body.get('title'))}: {_cell(body.get('detail'))}"]
    lines += [f"  {_cell(error.get('pointer'))} {_cell(error.get('detail'))}" for error in body.get("errors", ())]
    return "\n".join(lines)


def _changes(body: Mapping[str, Any]) -> list[str]:
    lines = [_cell(line) for line in body["changes"]]
    return lines or ["no more than comments or layout"]


def _needs(body: Mapping[str, Any]) -> list[str]:
    return [
        f"refused as long as {_cell(need['messages'])} messages need {_cell(need['what'])}" for need in body["needs"]
    ]


def _listed(rows: Sequence[Mapping[str, Any]], total: int, columns: Mapping[str, str], *, none: str) -> str:
    if not rows:
        return none
    more = [f"and {total - len(rows)} more"] if total > len(rows) else []
    return "\n".join([_table(rows, columns), *more])


def _facts(facts: Mapping[str, object]) -> str:
    width = max(len(name) for name in facts)
    return "\n".join(f"{name:<{width}}  {_cell(value)}" for name, value in facts.items())


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    lines = [list(columns.values()), *([_cell(row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: object) -> str:
    """Return a value on one line. What a provider said must not steer the terminal, so control characters go."""
    if value is None:
        return "-"
    text = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return "".join(character if character.isprintable() else "?" for character in text)
