"""Another host as ssh reaches it: a real OpenSSH server in a network namespace of its own.

It lets one key run one command, as an operator should have it for ``guestagent-host migrate
--dest``; everything that it and the client read is made for one test. ``ip netns exec`` gives
each of its processes a mount namespace, in which the server finds the user and the directories
that its package would have made.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from guestagent.errors import PeerError
from lab.base.paths import BUILD
from lab.base.process import end, run
from lab.base.runs import make_directory, unique_name
from lab.base.waiting import wait_until

NAME = "host2"
PORT = 2222
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
PROGRAM = BUILD / "sshd" / "usr" / "sbin" / "sshd"
"""Put there by ``dev``."""

BEGIN = """
mount -t tmpfs none /run && mkdir -p /run/sshd
grep -v ^sshd: /etc/passwd >{directory}/passwd
echo sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin >>{directory}/passwd
echo 'root:*:20000:0:99999:7:::' >{directory}/shadow
mount --bind {directory}/passwd /etc/passwd
mount --bind {directory}/shadow /etc/shadow
exec setpriv --pdeathsig KILL {program} -D -e -f {directory}/sshd_config
"""
SERVER = """
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PermitRootLogin forced-commands-only
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
"""
CLIENT = """
Host {name}
HostName 127.0.0.1
HostKeyAlias {name}
Port {port}
User root
IdentityFile {directory}/key
IdentitiesOnly yes
UserKnownHostsFile {directory}/known_hosts
GlobalKnownHostsFile none
"""


class FarHost:
    """A context manager; ``state_dir`` is where the helper there keeps its locks and leases."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._namespace = unique_name()
        self._directory = make_directory()
        self.path = self._directory / "bin"
        """The directory whose ``ssh`` reads the configuration that knows this host."""

    def __enter__(self) -> Self:
        for key in ("host_key", "key"):
            file = self._directory / key
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", NAME, "-f", file)
        host_key = (self._directory / "host_key.pub").read_text()
        self._write("known_hosts", f"{NAME} {host_key}")
        self._write("sshd_config", SERVER)
        self._write("ssh_config", CLIENT)
        self.admit()
        self.path.mkdir()
        ssh = self.path / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {self._directory}/ssh_config "$@"\n')
        ssh.chmod(0o755)
        run("ip", "netns", "add", self._namespace)
        run("ip", "-n", self._namespace, "link", "set", "lo", "up")
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.enter, "sh", "-ec", self._filled(BEGIN)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )
        try:
            wait_until("sshd listens", lambda: self._listens(log), timeout_s=START_TIMEOUT_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process, STOP_TIMEOUT_S)
        run("ip", "netns", "delete", self._namespace)
        shutil.rmtree(self._directory)

    @property
    def enter(self) -> tuple[str, ...]:
        """The beginning of a command that is run where this host can be reached."""
        return ("ip", "netns", "exec", self._namespace)

    def admit(self, *, whom: str = "key") -> None:
        """Let the client's key, or another one, do what the helper needs and nothing else."""
        far_end = (sys.executable, "-m", "guestagent.host.cli.main", "serve")
        command = shlex.join([*far_end, "--state-dir", str(self._state_dir)])
        key = (self._directory / f"{whom}.pub").read_text()
        self._write("authorized_keys", f'restrict,command="{command}" {key}')

    def sessions(self) -> tuple[int, ...]:
        """Return the server's own process for each connection."""
        return tuple(pid for pid in self._processes() if _parent(pid) == self._process.pid)

    @property
    def quiet(self) -> bool:
        """Whether nothing runs here but the server itself."""
        return self._processes() == {self._process.pid}

    def _processes(self) -> set[int]:
        return {int(pid) for pid in run("ip", "netns", "pids", self._namespace).split()}

    def _listens(self, log: Path) -> bool:
        if self._process.poll() is not None:
            raise PeerError(f"sshd did not start: {log.read_text()}")
        return "Server listening" in log.read_text()

    def _write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(self._filled(text))

    def _filled(self, text: str) -> str:
        for name, value in (
            ("{directory}", str(self._directory)),
            ("{program}", str(PROGRAM)),
            ("{port}", str(PORT)),
            ("{name}", NAME),
        ):
            text = text.replace(name, value)
        return text


def _parent(pid: int) -> int | None:
    """Return a process's parent; None where it has ended."""
    try:
        status = Path("/proc", str(pid), "status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
