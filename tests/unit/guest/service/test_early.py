"""The bonds of a boot: a NIC that udev has not named in time is left to the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.guest.cli import main, services
from guestagent.guest.reconcile import build
from tests.fakes.system import FakeSystem

MAC = "52:54:00:aa:00:01"


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    """A pair at boot."""
    made = FakeSystem()
    made.kernel.plug("ens2", MAC, driver="virtio_net")
    made.kernel.plug("ens3", MAC)
    monkeypatch.setattr(build, "make_engine", lambda *_, **__: made.engine())
    monkeypatch.setattr(services, "require_net_admin", lambda: None)
    return made


@pytest.mark.parametrize(
    ("words", "timeout_s"), [((), 2), (("--udev-timeout", "40"), 40), (("--udev-timeout", "0"), 0)]
)
@pytest.mark.parametrize("finished", [True, False])
def test_bonds_are_made_although_udev_does_not_finish_in_time(
    system: FakeSystem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    timeout_s: int,
    *,
    finished: bool,
) -> None:
    udevadm = tmp_path / "udevadm"
    udevadm.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\nexit {int(not finished)}\n')
    udevadm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main.main(["early", *words]) == 0
    assert (tmp_path / "asked").read_text() == f"settle --timeout={timeout_s}\n"
    assert system.kernel.named("bond0").complete
    output = capsys.readouterr().err
    assert (f"udev has not finished within {timeout_s} s" in output) is not finished


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon"])
def test_an_invalid_duration_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["early", f"--udev-timeout={text}"])
    assert ended.value.code == 2
    assert "is not a whole number of seconds" in capsys.readouterr().err
