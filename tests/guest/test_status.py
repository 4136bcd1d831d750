"""Status of a running agent for an operator: changes as they happen, and the metrics."""

from __future__ import annotations

import json

from guestagent.guest.core.journal_ids import JournalId
from lab.base.waiting import wait_until
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from tests.guest.seen import CONVERGED_S, wait_converged, wait_on_standby, wait_on_vf

SEEN = "/run/seen"


def seen(guest: Machine) -> list[Json]:
    """Return the complete lines that the watch has written so far."""
    lines = guest.run(f"cat {SEEN}").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_seen(guest: Machine, *, running: bool = True, reason: str | None = None) -> Json:
    """Wait until the last that the watch has shown is this."""

    def shown() -> Json:
        last = seen(guest)[-1]
        reasons = [pair["reason"] for pair in last["pairs"]]
        alike = (last["agent"] == "running") == running and reason in {None, *reasons}
        return last if alike else None

    return wait_until(f"shown: {running}, {reason}", shown, timeout_s=CONVERGED_S)


def test_a_watch_shows_every_change_and_outlives_the_agent(guest: Machine) -> None:
    guest.run(
        "systemd-run --quiet --unit=watch --property=KillSignal=SIGINT"
        f" --property=StandardOutput=file:{SEEN} guestagent status --watch --json"
    )
    wait_until(
        "the first", lambda: guest.execute(f"grep -q . {SEEN}").code == 0, timeout_s=CONVERGED_S
    )
    wait_seen(guest)
    guest.plug_vf()
    wait_on_vf(guest)
    wait_seen(guest, reason="on the VF")
    guest.run("guestagent switch standby")
    held = wait_seen(guest, reason="on the standby: it was asked for")
    assert (held["pairs"][0]["switches"], held["pairs"][0]["held_s"] > 0) == (1, True)
    guest.run("systemctl stop guestagent")
    gone: Json = wait_seen(guest, running=False)
    assert (gone["started_at_s"], gone["pairs"][0]["active"]) == (None, "standby")
    guest.run("systemctl start guestagent")
    wait_seen(guest, reason="on the standby: it was asked for")
    guest.run("guestagent switch auto")
    wait_seen(guest, reason="on the VF")
    guest.unplug_vf()
    wait_on_standby(guest)
    wait_seen(guest, reason="on the standby: the VF is away")

    entry = guest.run_json(
        f"journalctl --boot --output=json --lines=1 MESSAGE_ID={JournalId.SWITCHED} SIDE=standby"
    )
    assert (entry["BOND"], entry["PAIR"]) == ("bond0", "52:54:00:5a:00:00")

    wait_converged(guest)
    guest.run("systemctl stop watch")
    shown = guest.run("systemctl show --property=Result,ExecMainStatus watch || true")
    assert "Result=success" in shown, "Ctrl-C is no failure"

    guest.run("mkdir -p /run/prom && guestagent metrics --output /run/prom/guestagent.prom")
    metrics = guest.run("cat /run/prom/*").splitlines()
    labels = 'bond="bond0",mac="52:54:00:5a:00:00"'
    assert "guestagent_up 1" in metrics
    assert f'guestagent_pair_active{{{labels},side="standby"}} 1' in metrics
    assert f"guestagent_pair_switches_total{{{labels}}} 2" in metrics
    guest.run("systemd-analyze security --threshold=17 --no-pager guestagent.service")
    text = guest.run("guestagent status")
    assert "last switch 20" in text
    assert "\x1b[" not in text, "no colour into a pipe"
