"""Days as the law and the people here count them: those of Europe/Brussels."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

BRUSSELS: Final = ZoneInfo("Europe/Brussels")


def day_of(moment: datetime) -> date:
    """Return the day on which a moment falls."""
    return moment.astimezone(BRUSSELS).date()


def start_of(day: date) -> datetime:
    """Return the moment at which a day begins, in UTC."""
    return datetime.combine(day, time(), BRUSSELS).astimezone(UTC)


def end_of(day: date) -> datetime:
    """Return the moment at which a day ends and the next begins, in UTC."""
    return start_of(day + timedelta(days=1))
