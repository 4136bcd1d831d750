"""A QEMU that ends at boot: its last words are kept, and the guest is booted once more."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guestagent.errors import DeadlineError
from lab.image.build import Image
from lab.machine.commands import Commands, QemuGoneError
from lab.machine.faults import QemuEndedFault, epitaph
from lab.machine.guests import Freezer
from lab.machine.machine import Frozen, Machine
from lab.machine.setup import Setup
from lab.network.wires import Network

ENDED = QemuEndedFault("QEMU was ended by SIGABRT")
LATE = DeadlineError("not started within 120 s")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a machine whose QEMU wrote to its log and was ended by a signal."""
    monkeypatch.setattr("lab.machine.machine.make_directory", lambda: tmp_path)
    made = Machine(image=Image(directory=tmp_path), network=Network(), logs=tmp_path)
    (tmp_path / "guest-qemu.log").write_text("qemu-system-x86_64 -name guest\nlost its map\n")
    (tmp_path / "guest-serial.log").write_text("Starting udev...\n")
    here, there = socket.socketpair()
    made._process = subprocess.Popen(["sh", "-c", "kill -ABRT $$"])
    made._commands = Commands(here, name="guest")
    there.close()
    yield made
    here.close()
    made._process.wait()


def test_what_qemu_and_the_console_said_is_in_the_error_of_a_boot(machine: Machine) -> None:
    with pytest.raises(QemuEndedFault) as error:
        machine.wait_ready()
    for part in ("SIGABRT", "lost its map", "Starting udev..."):
        assert part in str(error.value)
    assert "-name guest" not in str(error.value), "its command line is in the log"


def test_and_in_that_of_a_command_which_may_be_the_fault_of_what_is_tested(
    machine: Machine,
) -> None:
    with pytest.raises(QemuGoneError, match=r"(?s)SIGABRT.*lost its map.*Starting udev"):
        machine.execute("true")


def test_an_end_without_a_word_is_told_by_its_code(tmp_path: Path) -> None:
    text = epitaph(1, qemu_log=tmp_path / "qemu.log", serial_log=tmp_path / "serial.log")
    assert text.splitlines()[0] == "QEMU ended with exit code 1"
    assert text.count("ends with: nothing") == 2
    running = epitaph(None, qemu_log=tmp_path / "a", serial_log=tmp_path / "b")
    assert "runs on" in running
    assert signal.SIGABRT.name in epitaph(
        -signal.SIGABRT, qemu_log=tmp_path / "a", serial_log=tmp_path / "b"
    )


@pytest.mark.parametrize(
    ("ends", "boots", "error"),
    [
        ([None], 1, None),
        ([ENDED, None], 2, None),
        ([ENDED, ENDED], 2, QemuEndedFault),
        ([LATE], 1, DeadlineError),
    ],
    ids=["boots", "ends-once", "ends-twice", "is-late"],
)
def test_a_guest_is_booted_once_more_if_its_qemu_ended_and_for_no_other_reason(
    ends: list[Exception | None],
    boots: int,
    error: type[Exception] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []

    def boot(_: Freezer, setup: Setup, name: str) -> Frozen:
        names.append(name)
        end = ends[len(names) - 1]
        if end is not None:
            raise end
        return Frozen(image=Image(directory=tmp_path), setup=setup, directory=tmp_path)

    monkeypatch.setattr(Freezer, "_boot_and_freeze", boot)
    freezer = Freezer(
        make_image=lambda _: Image(directory=tmp_path), directory=tmp_path, logs=tmp_path
    )
    if error is None:
        assert freezer.frozen(Setup()) is freezer.frozen(Setup())
    else:
        with pytest.raises(error):
            freezer.frozen(Setup())
    assert names == ["0", "0-again"][:boots], "the logs of both stay"
