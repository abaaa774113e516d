from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.domain.dossier import in_force

REGISTERED = datetime(2026, 11, 22, 10, tzinfo=UTC)


@dataclass(frozen=True)
class Term:
    from_on: date = date(2026, 11, 1)
    until_on: date | None = None
    registered_at: datetime = REGISTERED
    ended_at: datetime | None = None


@pytest.mark.parametrize(
    ("term", "at", "live"),
    [
        (Term(), REGISTERED, True),
        (Term(), REGISTERED - timedelta(seconds=1), False),  # never before it was registered
        (Term(from_on=date(2026, 12, 1)), REGISTERED, False),
        (Term(from_on=date(2026, 12, 1)), datetime(2026, 11, 30, 23, tzinfo=UTC), True),  # midnight in Brussels
        (Term(from_on=date(2026, 12, 1)), datetime(2026, 11, 30, 22, 59, tzinfo=UTC), False),
        (Term(until_on=date(2026, 11, 22)), datetime(2026, 11, 22, 22, 59, tzinfo=UTC), True),
        (Term(until_on=date(2026, 11, 22)), datetime(2026, 11, 22, 23, tzinfo=UTC), False),
        (Term(ended_at=REGISTERED + timedelta(hours=1)), REGISTERED + timedelta(minutes=59), True),
        (Term(ended_at=REGISTERED + timedelta(hours=1)), REGISTERED + timedelta(hours=1), False),
    ],
)
def test_when_a_dossier_is_in_force(term, at, live):
    assert in_force(term, at) is live
