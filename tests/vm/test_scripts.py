"""The script of docs/hosts.md does what the page says: start, migrate and stop a VM.

Both hosts are this machine: what goes over ssh is run here, with the other host's directories.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.base.paths import ROOT
from lab.base.process import run
from lab.base.waiting import wait_until
from lab.image.seed import write_initrd
from lab.machine.accelerator import accelerator
from lab.machine.commands import Commands
from lab.machine.guests import Freezer
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network

PAIR = NicPair()
SETUP = Setup(pairs=(PAIR,))
HOSTS = {"host1": "A", "host2": "B"}
TIMEOUT_S = 600

CONF = """\
memory=512 cpus=2
disk={directory}/disk.qcow2
mac={mac} bridge=host$LAB_HOST
tap=vm-s$LAB_HOST
accelerator=({accelerator})
more=(
    -kernel {kernel} -initrd {directory}/initrd -append {append}
    -netdev tap,id=vf0,ifname=vm-v$LAB_HOST,script=no,downscript=no
    -chardev socket,id=commands,path=$run/commands.sock,server=on,wait=off
    -device virtserialport,chardev=commands,name=lab.commands.0
)
"""
DESCRIPTION = """\
name = "web1"
[source]
qmp = "{here}/web1/qmp.sock"
agent = "{here}/web1/agent.sock"
[destination]
qmp = "{there}/web1/qmp.sock"
agent = "{there}/web1/agent.sock"
host = "ssh://@DEST@"
uri = "unix:{there}/web1/migration.sock"
[[pair]]
mac = "{mac}"
standby = "net0"
vf = {{ driver = "e1000e", id = "vf0", bus = "rp2", netdev = "vf0", mac = "{mac}", romfile = "" }}
"""
SSH = """\
#!/bin/bash
while [[ $1 != host[12] ]]; do shift; done
export VM_RUN={directory}/$1 LAB_HOST=B
shift
exec sh -c "$*"
"""
HELPER = """\
#!/bin/sh
exec {python} -m guestagent.host.cli.main "$@" --state-dir "$VM_RUN/state"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Two hosts with the script, as this machine plays them."""

    directory: Path
    network: Network

    def vm(self, *words: str, host: str = "host1") -> str:
        """Call the script on a host; it must succeed."""
        env = os.environ | {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "VM_ETC": str(self.directory),
            "VM_RUN": str(self.directory / host),
            "LAB_HOST": HOSTS[host],
        }
        # A file, for QEMU goes to the background with what it has inherited.
        with (self.directory / "log").open("w") as log:
            done = subprocess.run(
                self.network.hosts("vm", *words),
                check=False,
                stdout=log,
                stderr=log,
                env=env,
                timeout=TIMEOUT_S,
            )
        said = (self.directory / "log").read_text()
        assert done.returncode == 0, said
        return said

    def ask(self, host: str, script: str) -> str:
        """Run a script in the guest, which is on this host."""
        commands = Commands(self.directory / host / "web1" / "commands.sock", name=host)
        try:
            done = commands.run(script, timeout_s=TIMEOUT_S)
        finally:
            commands.close()
        assert done.code == 0, done
        return done.stdout

    def active(self, host: str) -> str:
        """Return the NIC that carries the traffic of the pair; nothing while there is no pair."""
        pairs = json.loads(self.ask(host, "guestagent status --json"))["pairs"]
        return "".join(str(pair["active"]) for pair in pairs)

    def runs(self, host: str) -> bool:
        """Whether QEMU is there."""
        return (self.directory / host / "web1" / "pid").exists()


@pytest.fixture
def site(network: Network, freezer: Freezer, tmp_path: Path) -> Iterator[Site]:
    """Make the files that the page asks for, in a directory of this test."""
    image = freezer.image(SETUP.flavour)
    write_initrd(tmp_path / "initrd", image_initrd=image.initrd, files=SETUP.all_files())
    overlay = ("-b", str(image.disk), "-F", "raw", str(tmp_path / "disk.qcow2"))
    run("qemu-img", "create", "-q", "-f", "qcow2", *overlay)
    conf = CONF.format(
        directory=tmp_path,
        mac=PAIR.mac,
        kernel=image.kernel,
        append=shlex.quote(SETUP.kernel_arguments),
        accelerator=shlex.join(accelerator(image)),
    )
    (tmp_path / "web1.conf").write_text(conf)
    here, there = tmp_path / "host1", tmp_path / "host2"
    (tmp_path / "web1.toml").write_text(DESCRIPTION.format(here=here, there=there, mac=PAIR.mac))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vm").symlink_to(ROOT / "packaging" / "examples" / "vm")
    for name, text in (("ssh", SSH), ("guestagent-host", HELPER)):
        (tmp_path / "bin" / name).write_text(
            text.format(directory=tmp_path, python=sys.executable)
        )
        (tmp_path / "bin" / name).chmod(0o755)
    for letter in HOSTS.values():
        for kind in "sv":
            network.add_tap(f"vm-{kind}{letter}", host=letter)
    yield Site(directory=tmp_path, network=network)
    for pid in tmp_path.glob("host?/web1/pid"):
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


def test_the_script_of_the_page_starts_migrates_and_stops_a_vm(site: Site) -> None:
    site.vm("start", "web1")
    wait_until("it uses its VF", lambda: site.active("host1") == "vf", timeout_s=120)
    said = site.vm("migrate", "web1", "host2")
    assert "runs on host2" in said
    assert (site.runs("host1"), site.runs("host2")) == (False, True)
    wait_until("it uses its VF", lambda: site.active("host2") == "vf", timeout_s=120)
    site.ask("host2", f"ping -c 1 -W 30 {PAIR.peer_addresses[0].partition('/')[0]}")
    # The lab's guests do without what answers the power button.
    site.ask(
        "host2",
        "rm /etc/systemd/system/systemd-logind.service && systemctl daemon-reload &&"
        " systemctl start systemd-logind",
    )
    site.vm("stop", "web1", host="host2")
    assert not site.runs("host2")
