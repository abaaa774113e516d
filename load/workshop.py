"""What servers and generator of a run share: a folder with certificates, the sender's file and prepared sets."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tomli_w

from gateway.client import SenderProfile, load_sender
from gateway.demo.environment import ROOT
from gateway.demo.story import GATEWAY, SENDERS
from load.preparing import Order, prepare

_SENDER: Final = SENDERS[0]


@dataclass(frozen=True, slots=True)
class Workshop:
    """A folder; each method blocks."""

    folder: Path

    @property
    def certs(self) -> Path:
        """The certificates, as certs-dev/make.py names them."""
        return self.folder / "certs"

    @property
    def sender_file(self) -> Path:
        """The sender's file; where the gateway is, the run knows."""
        return self.folder / "sender.toml"

    def set_up(self) -> SenderProfile:
        """Make certificates and the sender's file, unless they are there; return the sender."""
        if not self.sender_file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                [sys.executable, ROOT / "certs-dev" / "make.py", self.certs], check=True, capture_output=True
            )
            values = {
                "base_url": "https://localhost:8443",
                "gateway": GATEWAY,
                "ca": "certs/ca.pem",
                "certificate": f"certs/{_SENDER.name}.pem",
                "key": f"certs/{_SENDER.name}.key",
                "receipt_certificate": "certs/receipts.pem",
                "enterprise_number": _SENDER.enterprise_number,
                "profile": _SENDER.profile,
            }
            self.sender_file.write_text(tomli_w.dumps(values))
        return load_sender(self.sender_file)

    def prepared(self, order: Order) -> Path:
        """
        Return the folder of the set of an order, made when it is not there yet.

        Raises:
            CannotRun: as `prepare`.
        """
        folder = self.folder / "sets" / order.label
        if not folder.exists():
            prepare(folder, order, self.sender_file)
        return folder
