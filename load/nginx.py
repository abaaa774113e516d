"""
The limit that the gateway is held against: nginx, with the same mutual TLS, spooling the same bodies to disk.

It does nothing else: no signature, no sealing, no commit, no receipt. A body is taken by PUT (ngx_http_dav_module),
which writes it to a file of its own and answers 201; one worker, pinned to the core of the gateway.
"""

import asyncio
import contextlib
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.client import SenderProfile
from gateway.demo.environment import free_ports
from load.generator import Target
from load.problems import CannotRun
from load.processes import descendants, pin

_READY_S: Final = 10.0
_POLL_S: Final = 0.02
_SYSTEM_PROGRAMS: Final = "/usr/local/sbin:/usr/sbin:/sbin"  # of Debian, and not in everybody's PATH

_CONFIGURATION: Final = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server_tokens off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  tcp_nodelay on;
  client_max_body_size 64m;
  client_body_in_file_only clean;
  client_body_temp_path {folder}/spool/temporary;
  proxy_temp_path {folder}/unused;
  fastcgi_temp_path {folder}/unused;
  uwsgi_temp_path {folder}/unused;
  scgi_temp_path {folder}/unused;
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name localhost;
    ssl_certificate {certs}/server.pem;
    ssl_certificate_key {certs}/server.key;
    ssl_client_certificate {certs}/clients-ca.pem;
    ssl_crl {certs}/clients.crl.pem;
    ssl_verify_client on;
    ssl_verify_depth 3;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    ssl_session_cache off;
    root {folder}/spool;
    location / {{
      dav_methods PUT;
      create_full_put_path on;
    }}
  }}
}}
"""


def program() -> str | None:
    """Return where nginx is, None when it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path=_SYSTEM_PROGRAMS)


class Nginx:
    """Use as an asynchronous context manager."""

    def __init__(self, folder: Path, certs: Path, sender: SenderProfile, cores: frozenset[int]) -> None:
        self._folder = folder
        self._certs = certs
        self._sender = sender
        self._cores = cores
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        found = program()
        if found is None:
            raise CannotRun("nginx is not installed: apt-get install nginx")
        self._port = (await asyncio.to_thread(free_ports, 1))[0]
        await asyncio.to_thread(self._prepare)
        self._process = await asyncio.create_subprocess_exec(
            found,
            "-p", str(self._folder),
            "-c", str(self._folder / "nginx.conf"),
            "-e", str(self._folder / "error.log"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await self._wait_until_ready(self._process)
            pin(self._process.pid, self._cores)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def target(self) -> Target:
        """How the generator reaches it."""
        return Target(base_url=f"https://localhost:{self._port}", tls=self._sender.tls)

    @property
    def worker_pids(self) -> list[int]:
        """The processes that do the work."""
        return descendants(self._process.pid) if self._process is not None else []

    def _prepare(self) -> None:
        (self._folder / "spool" / "temporary").mkdir(parents=True)
        user = "user root;" if self._folder.owner() == "root" else ""  # the folders of a run are its owner's alone
        text = _CONFIGURATION.format(folder=self._folder, certs=self._certs, port=self._port, user=user)
        (self._folder / "nginx.conf").write_text(text)

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while process.returncode is None:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                        writer.close()
                        return
                    await asyncio.sleep(_POLL_S)
        log = self._folder / "error.log"
        raise CannotRun(f"nginx does not start: {log.read_text()[-1000:] if log.exists() else 'no log'}")

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
