"""
Recipients with a fixed fate, for demo, tests and load alike. Any other valid recipient behaves like the fine one.

Citizens carry months 61 to 72 in their number, which belong to nobody; the enterprise numbers `09999…` are not given
out. All check digits hold.

| e-Box recipient               | number      | what happens                                                      |
|-------------------------------|-------------|-------------------------------------------------------------------|
| `CITIZEN_FINE`                | 90610100155 | published, read at the second look                                |
| `CITIZEN_NO_CONSENT`          | 90610100254 | the consent look-up says no; publishing gives 400 `INVALID_INPUT` |
| `CITIZEN_NO_BOX`              | 90610100353 | has consent, published with `NO_DIGITAL_USER`, not read           |
| `CITIZEN_UNREAD`              | 90610100452 | published, stays unread for ever                                  |
| `CITIZEN_READ_AT_ONCE`        | 90610100551 | published, read at the first look                                 |
| `CITIZEN_REFUSED`             | 90610100650 | 400 `INVALID_INPUT`                                               |
| `CITIZEN_DOUBT`               | 90610100749 | kept, but answered 504; the same key again gives 409              |
| `ENTERPRISE_FINE`             | 0406798006  | published, read at the second look                                |
| `ENTERPRISE_EXCLUSIVELY_EBOX` | 0999900150  | as the fine one; asked for no paper copies                        |
| `ENTERPRISE_INACTIVE`         | 0999900249  | no active enterprise: 400 `INVALID_INPUT`, no preferences         |
| `ENTERPRISE_NO_BOX`           | 0999900348  | published with `NO_DIGITAL_USER`, no preferences, not read        |
| `ENTERPRISE_UNREAD`           | 0999900447  | published, stays unread for ever                                  |
| `ENTERPRISE_DOUBT`            | 0999900546  | kept, but answered 504; the same key again gives 409              |
| `ENTERPRISE_WITHOUT_MANDATE`  | 0999900645  | as a sender: has mandated nobody                                  |

| print recipient | name              | postcode | what happens                                                   |
|-----------------|-------------------|----------|----------------------------------------------------------------|
| `RETURNED`      | Magic Returned    | 9993     | sent back after dispatch, reason `unknown`                     |
| `NOT_COLLECTED` | Magic Uncollected | 9994     | held at the post office, sent back, reason `not_collected`     |
| `REFUSED`       | Magic Refused     | 9995     | 422 `address-undeliverable`                                    |
| `SLOW`          | Magic Slow        | 9996     | every status lasts three looks or control steps instead of one |
| `DOUBT`         | Magic Doubt       | 9997     | kept, but answered 504; the same request again gives 200       |

A print recipient is magic by its name (capitals do not matter) or by its postcode in Belgium.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

CITIZEN_FINE: Final = "90610100155"
CITIZEN_NO_CONSENT: Final = "90610100254"
CITIZEN_NO_BOX: Final = "90610100353"
CITIZEN_UNREAD: Final = "90610100452"
CITIZEN_READ_AT_ONCE: Final = "90610100551"
CITIZEN_REFUSED: Final = "90610100650"
CITIZEN_DOUBT: Final = "90610100749"

ENTERPRISE_FINE: Final = "0406798006"
ENTERPRISE_EXCLUSIVELY_EBOX: Final = "0999900150"
ENTERPRISE_INACTIVE: Final = "0999900249"
ENTERPRISE_NO_BOX: Final = "0999900348"
ENTERPRISE_UNREAD: Final = "0999900447"
ENTERPRISE_DOUBT: Final = "0999900546"
ENTERPRISE_WITHOUT_MANDATE: Final = "0999900645"

NEVER_READ: Final = frozenset({CITIZEN_UNREAD, ENTERPRISE_UNREAD})
WITHOUT_BOX: Final = frozenset({CITIZEN_NO_BOX, ENTERPRISE_NO_BOX})
IN_DOUBT: Final = frozenset({CITIZEN_DOUBT, ENTERPRISE_DOUBT})


class PrintFate(StrEnum):
    """What becomes of a letter because of its recipient."""

    FINE = "fine"
    RETURNED = "returned"
    NOT_COLLECTED = "not-collected"
    REFUSED = "refused"
    SLOW = "slow"
    DOUBT = "doubt"


PRINT_NAMES: Final[Mapping[PrintFate, str]] = MappingProxyType(
    {
        PrintFate.RETURNED: "Magic Returned",
        PrintFate.NOT_COLLECTED: "Magic Uncollected",
        PrintFate.REFUSED: "Magic Refused",
        PrintFate.SLOW: "Magic Slow",
        PrintFate.DOUBT: "Magic Doubt",
    }
)
PRINT_POSTCODES: Final[Mapping[PrintFate, str]] = MappingProxyType(
    {
        PrintFate.RETURNED: "9993",
        PrintFate.NOT_COLLECTED: "9994",
        PrintFate.REFUSED: "9995",
        PrintFate.SLOW: "9996",
        PrintFate.DOUBT: "9997",
    }
)


def print_fate(name: str, postcode: str, country: str) -> PrintFate:
    """Return what becomes of a letter to this name and postcode; the name goes before the postcode."""
    for fate, magic_name in PRINT_NAMES.items():
        if name.casefold() == magic_name.casefold():
            return fate
    if country == "BE":
        for fate, magic_postcode in PRINT_POSTCODES.items():
            if postcode == magic_postcode:
                return fate
    return PrintFate.FINE
