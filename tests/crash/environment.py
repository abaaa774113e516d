"""Where a run lives: a folder with configuration and state, and the ports of one worker of the harness."""

import shutil
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import tomli_w

from gateway.client.sender import SenderProfile, load_sender
from gateway.demo.environment import ROOT, free_ports
from gateway.simulators.__main__ import load_public_key
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.ebox_settings import DEMO_CLIENT_ID, DEMO_ORGANISATION
from gateway.simulators.print_house import PrintHouseSimulator
from gateway.simulators.serve import Simulators
from gateway.simulators.tokens import Client
from tests.crash.speeding import SharedClock

GATEWAY: Final = "gateway.dev.example"
SENDER: Final = "0406798006"
PROFILE: Final = "burgerzaken"
KEPT: Final = timedelta(days=1)  # how long copies and what could not be delivered are kept; the shortest there is
WATCHED: Final = timedelta(days=6)  # how long a posted letter is asked about
ENCLOSED_BYTES: Final = 30_000  # what a document of the story may have, sealed, to lie in the ledger
_CALL: Final = {"attempt_timeout_s": 8.0, "connect_timeout_s": 6.0, "settle_s": 1.0}
_LOCALHOST: Final = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where everything of one worker listens, run after run."""

    intake: int
    portal: int
    ops: int
    ebox: int
    print_house: int

    @classmethod
    def take(cls) -> "Ports":
        intake, portal, ops, ebox, print_house = free_ports(5)
        return cls(intake=intake, portal=portal, ops=ops, ebox=ebox, print_house=print_house)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The files and addresses of one run."""

    folder: Path
    certs: Path
    ports: Ports
    ledger: str  # URI

    @property
    def config_file(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def blobs(self) -> Path:
        return self.state / "blobs"

    @property
    def log(self) -> Path:
        return self.folder / "gateway.log"

    def write(self) -> None:
        """Write the configuration. The keyring is made by its own command, as in production."""
        source = ROOT / "config"
        values: dict[str, Any] = tomllib.loads(
            (source / "gateway.dev.toml").read_text().replace("../state/certs", str(self.certs))
        )
        senders = self.folder / "senders"
        shutil.copytree(source / "senders", senders)
        own = senders / f"{SENDER}.toml"
        # Nobody can ask whether a message was read whose only answer was a 409, so no letter here waits to be read.
        own.write_text("".join(line for line in own.open() if not line.startswith("unread_after")))
        values["gateway"] |= {
            "state": str(self.state),
            "senders": str(senders),
            "categories": str(source / "categories.toml"),
            "staff": str(source / "staff.toml"),
            "security_matrix": str(source / "security-matrix.toml"),
        }
        ports = self.ports
        values["intake"] |= {
            "bind": f"{_LOCALHOST}:{ports.intake}",
            "public_url": f"https://localhost:{ports.intake}",
        }
        values["portal"] |= {"bind": f"{_LOCALHOST}:{ports.portal}", "public_url": f"http://localhost:{ports.portal}"}
        values["ops"]["bind"] = f"{_LOCALHOST}:{ports.ops}"
        values["admin"] = {"socket": str(self.folder / "admin.sock")}
        values["stores"] = {
            "ledger": self.ledger,
            "blobs": f"file://{self.blobs}",
            "keyring": f"local:{self.folder / 'keyring.json'}",
            "enclose_up_to_bytes": ENCLOSED_BYTES,
        }
        ebox, house = values["providers"]["bosa"], values["providers"]["house-a"]
        for key in ("base_url", "token_url", "federation_url", "partition_url"):
            ebox[key] = f"http://{_LOCALHOST}:{ports.ebox}/" + ebox[key].split("/", 3)[3]
        house["base_url"] = f"http://{_LOCALHOST}:{ports.print_house}"
        ebox |= {**_CALL, "conflict_means": "accepted"}
        house |= _CALL
        values["providers"]["bosa-doubt"] = {**ebox, "conflict_means": "doubt"}
        values["channels"]["ebox-enterprise"] = ["bosa-doubt"]
        values["retry"] = {"first_delay_s": 1.0, "longest_delay_s": 4.0, "decide_after_s": 20_000.0, "jitter": 0.0}
        values["polling"] = {
            "read_status_s": [1.0],
            "read_status_then_s": 1.0,
            "print_s": 1.0,
            "returned_every_s": 2.0,
            "returned_watch_s": WATCHED.total_seconds(),
        }
        values["retention"] = {"keep_undelivered": f"P{KEPT.days}D"}
        values["workers"] = {"lease_s": 10.0, "poll_s": 0.3}
        self.config_file.write_text(tomli_w.dumps(values))

    def sender(self) -> SenderProfile:
        """Return who sends."""
        file = self.folder / "sender.toml"
        values = {
            "base_url": f"https://localhost:{self.ports.intake}",
            "gateway": GATEWAY,
            "ca": str(self.certs / "ca.pem"),
            "certificate": str(self.certs / "gemeente.pem"),
            "key": str(self.certs / "gemeente.key"),
            "receipt_certificate": str(self.certs / "receipts.pem"),
            "enterprise_number": SENDER,
            "profile": PROFILE,
        }
        file.write_text(tomli_w.dumps(values))
        return load_sender(file)

    def simulators(self, clock: SharedClock) -> Simulators:
        """Return the providers, in the time of the run."""
        key = load_public_key(self.certs / "ebox-client.pem")
        return Simulators(
            ebox=EboxSimulator(
                clients=[Client(client_id=DEMO_CLIENT_ID, public_key=key, organisation=DEMO_ORGANISATION)], clock=clock
            ),
            print_house=PrintHouseSimulator(api_key=(self.certs / "print-api-key").read_text().strip(), clock=clock),
            ebox_address=(_LOCALHOST, self.ports.ebox),
            print_address=(_LOCALHOST, self.ports.print_house),
        )
