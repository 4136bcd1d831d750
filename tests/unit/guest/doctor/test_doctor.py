"""Findings of the doctor in a guest, and none in a healthy one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from guestagent.findings import Finding, Severity
from guestagent.guest.cli.main import main
from guestagent.guest.core.addressing import Address
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, BondOptions, Policy
from guestagent.guest.doctor.examine import examine, has_error
from guestagent.guest.doctor.facts import (
    BondingModule,
    CloudInitState,
    CompetingStack,
    GuestFacts,
    NicFacts,
    UnitState,
)
from guestagent.guest.doctor.gather import collect
from tests.fakes.system import FakeSystem

MAC = "52:54:00:00:00:01"
OWN = Address(family=2, address="198.18.0.9", prefix_length=24)


@dataclass
class Patient:
    """A guest in memory, healthy until a test does something to it."""

    system: FakeSystem = field(default_factory=FakeSystem)
    policy: Policy = field(default_factory=Policy)
    nics: dict[str, NicFacts] = field(default_factory=dict)

    def plug(self, name: str, driver: str = "igbvf", mac: str = MAC) -> None:
        ifindex = self.system.kernel.plug(name, mac, driver=driver)
        self.nics[name] = NicFacts(
            ifindex=ifindex,
            max_mtu=9000,
            made_up_mac=False,
            addresses=(),
            received=100,
            sent=100,
            marked=True,
            known_to_udev=True,
        )

    def nic(self, name: str, **changed: object) -> None:
        """Change what is known of a NIC beside its link."""
        self.nics[name] = replace(self.nics[name], **changed)  # type: ignore[arg-type]

    def link(self, name: str, **changed: object) -> None:
        """Change a link behind everybody's back."""
        table = self.system.kernel.table
        link = next(item for item in table.values() if item.name == name)
        table[link.ifindex] = replace(link, **changed)  # type: ignore[arg-type]

    def facts(self, **changed: object) -> GuestFacts:
        snapshot = self.system.engine(self.policy).look().snapshot
        return GuestFacts(
            snapshot=snapshot,
            policy=self.policy,
            nics=tuple(self.nics.values()),
            **changed,  # type: ignore[arg-type]
        )

    def findings(self, **changed: object) -> tuple[Finding, ...]:
        return examine(self.facts(**changed))

    def found(self, **changed: object) -> Finding:
        """Return the one finding that there must be."""
        (finding,) = self.findings(**changed)
        assert finding.hint
        return finding


@pytest.fixture
def bonded() -> Patient:
    patient = Patient()
    patient.plug("ens2", "virtio_net")
    patient.plug("ens3")
    patient.system.engine().converge()
    patient.system.later(10)
    patient.system.engine().converge()
    return patient


@pytest.fixture
def alone() -> Patient:
    patient = Patient()
    patient.plug("ens2", "virtio_net")
    return patient


def test_a_healthy_guest_has_no_findings(bonded: Patient, alone: Patient) -> None:
    assert bonded.findings() == alone.findings() == Patient().findings() == ()


@pytest.mark.parametrize(
    ("changed", "severity", "about", "seen"),
    [
        ({"module": BondingModule.MISSING}, "error", "kernel", "no bonding module"),
        ({"module": BondingModule.BLOCKED}, "error", "kernel", "keeps the bonding module from"),
        (
            {
                "configuration": Finding(
                    subject="configuration", message="x.toml: unknown key y", hint="known: z"
                )
            },
            *("error", "configuration", "unknown key y"),
        ),
        ({"last_error": "it burns"}, "error", "agent", "it burns"),
        ({"host_channel": False}, "warning", "org.guestagent.0", "nothing stands in for it"),
        (
            {"host_channel": False, "guest_agent_channel": True},
            *("warning", "org.guestagent.0", "qemu-ga may stand in"),
        ),
        ({"journal_library": False}, "warning", "python3-systemd", "no fields"),
        ({"unseen": ("no access",)}, "note", "doctor", "no access"),
        ({"cloud_init": CloudInitState.DUPLICATE_MAC}, "error", "cloud-init", "it failed"),
        (
            {"cloud_init": CloudInitState.PENDING},
            "error",
            "cloud-init",
            f"2 NICs have the MAC {MAC}",
        ),
        (
            {
                "competing_stacks": (
                    CompetingStack(stack="S", link="ens3", source="/f", kept_off=False),
                )
            },
            *("error", "ens3", "/f gives it to S"),
        ),
        (
            {
                "competing_stacks": (
                    CompetingStack(stack="S", link="ens3", source="/f", kept_off=True),
                )
            },
            *("warning", "ens3", "nothing but a udev property"),
        ),
    ],
)
def test_each_fault_of_the_system_is_found(
    bonded: Patient, changed: dict[str, object], severity: str, about: str, seen: str
) -> None:
    finding = bonded.found(**changed)
    assert (finding.severity, finding.subject) == (Severity(severity), about)
    assert seen in finding.message


def test_a_pending_cloud_init_is_no_fault_without_a_duplicate_mac(alone: Patient) -> None:
    assert alone.findings(cloud_init=CloudInitState.PENDING) == ()


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"installed": False}, "not installed"),
        ({"enabled": False}, "does not start at boot"),
        ({"active": "inactive"}, "not running"),
        ({"active": "failed", "result": "watchdog"}, "failed (watchdog)"),
    ],
)
def test_the_service_must_run_now_and_after_a_boot(
    bonded: Patient, changed: dict[str, object], seen: str
) -> None:
    good = UnitState(
        name="guestagent.service", installed=True, enabled=True, active="active", result="success"
    )
    assert bonded.findings(units=(good,)) == ()
    finding = bonded.found(units=(replace(good, **changed),))  # type: ignore[arg-type]
    assert (finding.severity, finding.subject) == (Severity.ERROR, "guestagent.service")
    assert seen in finding.message


def test_the_early_unit_need_not_have_run_in_this_boot(bonded: Patient) -> None:
    name = "guestagent-early.service"
    unit = UnitState(name=name, installed=True, enabled=True, active="inactive", result="success")
    assert bonded.findings(units=(unit,)) == ()
    assert "at boot" in bonded.found(units=(replace(unit, enabled=False),)).message


def test_the_vf_must_be_hidden_from_a_first_boot_of_cloud_init(bonded: Patient) -> None:
    name = "guestagent-hide.service"
    unit = UnitState(name=name, installed=True, enabled=True, active="inactive", result="success")
    pending, failed = CloudInitState.PENDING, replace(unit, active="failed", result="timeout")
    assert bonded.findings(units=(unit,), cloud_init=pending) == ()
    for bad, seen in (
        (replace(unit, enabled=False), "does not start at boot"),
        (failed, "failed (timeout)"),
    ):
        assert bonded.findings(units=(bad,)) == (), "no cloud-init, nobody to hide from"
        found = bonded.findings(units=(bad,), cloud_init=pending)
        assert {item.subject for item in found} == {name, "cloud-init"}
        (finding,) = bonded.findings(units=(bad,), cloud_init=CloudInitState.DONE)
        assert finding.severity is Severity.ERROR
        assert seen in finding.message


@pytest.mark.parametrize("failover", [False, True], ids=["three", "net_failover"])
def test_nics_that_are_left_alone_are_reported_with_the_reason(
    alone: Patient, *, failover: bool
) -> None:
    alone.plug("ens3")
    if failover:
        alone.link("ens2", net_failover=True)
    else:
        alone.plug("ens4")
    finding = alone.found()
    assert finding.severity is Severity.ERROR
    assert MAC in finding.subject
    assert ("net_failover" if failover else "3 NICs share this MAC") in finding.message


def test_nics_that_the_operator_excludes_are_no_fault(alone: Patient) -> None:
    alone.plug("ens3")
    alone.policy = Policy(excluded=frozenset({MAC}))
    assert alone.found().severity is Severity.NOTE


def test_a_vlan_on_a_nic_of_the_pair_keeps_it_from_being_bonded(alone: Patient) -> None:
    alone.plug("ens3")
    (standby, _) = alone.system.kernel.links()
    alone.system.kernel.add_virtual("ens2.7", MAC, "vlan", lower=standby.ifindex)
    assert "ens2.7 sits on ens2" in alone.found().message


def test_a_step_that_waits_for_the_next_boot_is_a_note(alone: Patient) -> None:
    alone.plug("ens3")
    alone.system.engine().converge()
    alone.system.kernel.unplug(alone.nics["ens3"].ifindex)
    for link in alone.system.kernel.links():
        if link.kind == "bond":
            alone.system.kernel.unplug(link.ifindex)
    alone.link("ens2", upper=None)
    alone.system.kernel.owned[alone.nics["ens2"].ifindex] = [OWN]
    finding = alone.found()
    assert (finding.severity, "next boot" in finding.message) == (Severity.NOTE, True)


def test_a_vf_whose_mac_the_host_did_not_set_is_found(alone: Patient) -> None:
    alone.plug("ens3", mac="9a:00:00:00:00:07")
    alone.nic("ens3", made_up_mac=True)
    finding = alone.found()
    assert "made up its MAC 9a:00:00:00:00:07" in finding.message
    assert "ip link set PF vf NUMBER mac" in str(finding.hint)


def test_a_vf_that_was_given_another_mac_is_found(alone: Patient) -> None:
    alone.plug("ens3")
    alone.link("ens3", address="02:00:00:00:00:09")
    assert "changed to 02:00:00:00:00:09" in alone.found().message
    assert alone.found().severity is Severity.WARNING
    alone.policy = Policy(options=BondOptions(fail_over_mac=FAIL_OVER_MAC_ACTIVE))
    worst = alone.findings()[0]
    assert (worst.subject, worst.severity) == ("ens3", Severity.ERROR)


def test_a_bond_that_forgets_its_neighbours_at_each_switch_is_reported(alone: Patient) -> None:
    alone.plug("ens3")
    alone.policy = Policy(options=BondOptions(fail_over_mac=FAIL_OVER_MAC_ACTIVE))
    assert (alone.found().subject, alone.found().severity) == (MAC, Severity.NOTE)
    alone.system.engine(alone.policy).converge()
    alone.system.later(10)
    alone.system.engine(alone.policy).converge()
    alone.policy = Policy()
    assert (alone.found().subject, alone.found().severity) == ("bond0", Severity.NOTE)


def test_a_vf_with_too_small_an_mtu_is_found(alone: Patient) -> None:
    alone.plug("ens3")
    alone.link("ens2", mtu=9000)
    alone.nic("ens3", max_mtu=1500)
    assert "at most 1500 and the pair has 9000" in alone.found().message
    alone.nic("ens3", max_mtu=None)
    assert alone.findings() == ()


def test_a_port_with_another_mtu_than_the_bond_is_found(bonded: Patient) -> None:
    bonded.link("ens3", mtu=1400)
    assert "its MTU is 1400 and that of bond0 is 1500" in bonded.found().message


def test_a_vf_that_transmits_and_receives_nothing_is_found(bonded: Patient) -> None:
    bonded.nic("ens3", received=0)
    assert "has sent 100 packets and received none" in bonded.found().message
    bonded.nic("ens3", received=0, sent=3)
    assert bonded.findings() == (), "too few to tell"
    bonded.nic("ens2", received=0)
    assert bonded.findings() == (), "the standby is idle"


def test_a_filter_for_all_links_matters_while_the_nic_has_the_addresses(alone: Patient) -> None:
    assert alone.findings(all_are_filtered=True) == ()
    alone.nic("ens2", addresses=(OWN,))
    assert alone.findings() == ()
    assert "net.ipv4.conf.all.rp_filter" in str(alone.found(all_are_filtered=True).hint)


def test_a_port_with_addresses_of_its_own_is_found(bonded: Patient) -> None:
    bonded.nic("ens3", addresses=(OWN,))
    assert "addresses of its own: 198.18.0.9/24" in bonded.found().message
    bonded.nic("ens3", addresses=(replace(OWN, scope=253),))
    assert bonded.findings() == (), "link-local ones say little"


def test_a_bond_that_was_changed_is_found(bonded: Patient) -> None:
    state = bonded.system.kernel.named("bond0").bond
    assert state is not None
    bonded.link("bond0", bond=replace(state, miimon_ms=0))
    assert "miimon 0 ms" in bonded.found().message


def test_a_standby_without_carrier_is_found(bonded: Patient) -> None:
    bonded.link("ens2", carrier=False)
    assert "no carrier" in bonded.found().message


@pytest.mark.parametrize(
    ("changed", "seen"),
    [({"known_to_udev": False}, "no properties"), ({"marked": False}, "does not mark it")],
)
def test_a_vf_without_a_udev_mark_is_found(
    bonded: Patient, changed: dict[str, object], seen: str
) -> None:
    bonded.nic("ens3", **changed)
    assert seen in bonded.found().message


def test_the_worst_comes_first_and_only_errors_count(bonded: Patient) -> None:
    mild = bonded.findings(host_channel=False, unseen=("x",))
    both = bonded.findings(host_channel=False, unseen=("x",), last_error="y")
    assert [item.severity for item in both] == ["error", "warning", "note"]
    assert (has_error(mild), has_error(both)) == (False, True)


@pytest.mark.parametrize(("last_error", "code"), [(None, 0), ("it burns", 1)])
def test_the_exit_code_and_the_json_tell_whether_there_is_an_error(
    bonded: Patient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    last_error: str | None,
    code: int,
) -> None:
    facts = bonded.facts(last_error=last_error, journal_library=False)
    monkeypatch.setattr(collect, "gather", lambda _: facts)
    assert main(["doctor", "--json"]) == code
    form = json.loads(capsys.readouterr().out)
    assert (form["version"], form["healthy"]) == (1, code == 0)
    assert form["findings"][-1]["about"] == "python3-systemd"
    assert main(["doctor"]) == code
    text = capsys.readouterr().out
    assert text.endswith("1 error, 1 warning\n" if code else "1 warning\n")


RULES = ('iifname "ens2" tcp dport 22 accept', "-A INPUT -i ens2 -j ACCEPT", "iif ens2 accept")


@pytest.mark.parametrize("rule", RULES)
def test_a_packet_filter_that_names_the_nic_and_no_bond_is_found(
    bonded: Patient, rule: str
) -> None:
    finding = bonded.found(firewall=("table inet filter {", rule, "}"))
    assert (finding.severity, finding.subject) == (Severity.WARNING, "ens2")
    assert rule in finding.message
    both = 'iifname { "ens2", "bond0" } tcp dport 22 accept'
    assert bonded.findings(firewall=(rule, both)) == ()
    assert bonded.findings(firewall=(rule.replace("ens2", "ens25"),)) == ()


def test_a_packet_filter_is_checked_before_the_first_vf_is_plugged() -> None:
    patient = Patient()
    patient.plug("ens2", "virtio_net")
    assert patient.found(firewall=RULES).severity is Severity.WARNING
    patient.policy = Policy(excluded=frozenset({MAC}))
    assert patient.findings(firewall=RULES) == ()
