"""KVM where it really runs a guest, emulation elsewhere.

That /dev/kvm opens says little: in some virtual machines it does and no kernel ever starts.
So a kernel is started, once per boot of this machine.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from lab.base.paths import BUILD
from lab.image.build import Image

KVM = ("-accel", "kvm", "-cpu", "host")
# Five-level page tables only make the emulated page walks longer.
TCG = ("-accel", "tcg,thread=multi", "-cpu", "max,la57=off")

PROBE_TIMEOUT_S = 5.0


@functools.cache
def accelerator(image: Image) -> tuple[str, ...]:
    """Return the QEMU options for the accelerator and the CPU to use."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = BUILD / "cache" / f"kvm-{boot_id}"
    if not answer.exists():
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_text(str(int(_kvm_runs(image))))
    return KVM if answer.read_text() == "1" else TCG


def _kvm_runs(image: Image) -> bool:
    """Whether the image's kernel gets as far as its first line under KVM."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-m", "256"),
        *("-machine", "q35", *KVM, "-display", "none", "-serial", "stdio"),
        *("-kernel", str(image.kernel), "-append", "earlyprintk=ttyS0 console=ttyS0 panic=-1"),
    ]
    try:
        done = subprocess.run(
            argv,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    except subprocess.TimeoutExpired as expired:
        return b"Linux version" in (expired.stdout or b"")
    return b"Linux version" in done.stdout
