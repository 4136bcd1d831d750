"""Programs a VF through its PF (write, read back, repeat) and clears a tenant's values.

Reading back finds a driver that accepts a value without effect. Repeating covers a driver that is
busy (igb while the PF resets).
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass

from guestagent.clock import Clock, Deadline, Sleep
from guestagent.host.sriov.base import VfRefusedError
from guestagent.host.sriov.core import model
from guestagent.host.sriov.core.values import Mac, Value, VlanTag, optional, required
from guestagent.host.sriov.links import LinkError, Links, PortResponse

TRIES = 3
PAUSE_S = 0.2
ASSOCIATION_TIMEOUT_S = 20.0
ASSOCIATION_POLL_S = 0.2

_FINAL = {
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EACCES,
    errno.ENODEV,
    errno.EPROTONOSUPPORT,
    errno.ERANGE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VfPort:
    """One VF of a PF: ``pf`` is the PF's ifindex, ``name`` is for messages."""

    links: Links
    pf: int
    index: int
    name: str
    clock: Clock = time.monotonic
    sleep: Sleep = time.sleep

    def state(self) -> model.VfState:
        """Return the VF's values. Raises VfRefusedError if the PF does not report them."""
        state = self.links.vf_states(self.pf).get(self.index)
        if state is None:
            raise VfRefusedError(
                f"{self.name}: its PF does not report it",
                hint="check that the PF has VFs: ip link show",
            )
        return state

    def program(self, settings: model.VfSettings) -> tuple[str, ...]:
        """Write all settings; return warnings for optional ones that were refused.

        Raises VfRefusedError if a required value is refused, or any with on_refusal FAIL. Some
        values are written then: clear the VF.
        """
        warnings = []
        for value in optional(settings, self.state()):
            problem = self.write(value)
            if problem is not None:
                if settings.on_refusal is model.OnRefusal.FAIL:
                    raise VfRefusedError(problem, hint='on_refusal = "warn" goes on without it')
                warnings.append(problem)
        for value in required(settings):
            problem = self.write(value)
            if problem is not None:
                raise VfRefusedError(
                    problem, hint="see the messages of the PF's driver: journalctl -k"
                )
        if settings.port_profile is not None:
            self.associate(settings.port_profile)
        return tuple(warnings)

    def check_mac(self, mac: str) -> None:
        """Check that binding a driver has not changed the VF's MAC. Raises VfRefusedError."""
        shown = self.state().mac
        if shown != mac:
            raise VfRefusedError(
                f"{self.name}: has MAC {shown} after binding its driver, not {mac}"
            )

    def write(self, value: Value) -> str | None:
        """Write a value until the PF reports it; return None, or the reason for giving up."""
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                self.sleep(PAUSE_S * 2 ** (attempt - 1))
            try:
                self.links.write_vf(self.pf, self.index, value)
            except LinkError as error:
                problem = f"{self.name}: {error}"
                if error.code in _FINAL:
                    break
                continue
            state = self.state()
            if value.shown_by(state):
                return None
            problem = (
                f"{self.name}: {value} was accepted, but the PF reports {_shown(state, value)}"
            )
        return problem

    def clear_mac(self, mac: str | None, prior: str = model.NO_MAC) -> None:
        """Replace the tenant's ``mac`` by the former one or by none.

        Some drivers refuse zeros; others then set a random MAC, which is as good. Raises
        VfRefusedError if the tenant's MAC stays.
        """
        problem = None
        for other in dict.fromkeys((prior, model.NO_MAC, model.CLEARED_MAC)):
            if other == mac:
                continue
            problem = self.write(Mac(mac=other))
            if problem is None or (mac is not None and self.state().mac != mac):
                return
        raise VfRefusedError(
            problem or f"{self.name}: no MAC could be written",
            hint="do not use this VF; see the messages of its PF's driver: journalctl -k",
        )

    def restore(
        self, settings: model.VfSettings | None, prior: model.VfState | None
    ) -> tuple[str, ...]:
        """Restore the VF's values from before ``settings``; return warnings for optional values.

        Without ``prior`` it gets the values of an unused VF. Raises VfRefusedError if the MAC
        or the VLAN of the tenant stays.
        """
        mac = None if settings is None else settings.mac
        if settings is not None and settings.port_profile is not None:
            self.disassociate()
        before = prior or _unused(self.state())
        self.clear_mac(mac, before.mac)
        vlan = VlanTag(vlan=before.vlan, qos=before.qos, protocol=before.vlan_protocol)
        problem = self.write(vlan)
        if problem is not None:
            raise VfRefusedError(problem, hint="do not use this VF until this is cleared")
        state = self.state()
        written = [self.write(value) for value in optional(before, state)]
        return tuple(problem for problem in written if problem is not None)

    def associate(self, profile: model.PortProfile) -> None:
        """Associate the VF with a port profile of the switch. Raises VfRefusedError."""
        response = self._request_profile(profile)
        if response != PortResponse.SUCCESS:
            raise VfRefusedError(
                f"{self.name}: port profile {profile.name!r}: {_describe_response(response)}",
                hint="check that the switch has this profile",
            )

    def disassociate(self) -> None:
        """Disassociate the VF from its port profile, if any. Raises VfRefusedError."""
        if self.links.port_profile_response(self.pf, self.index) is not None:
            self._request_profile(None)

    def _request_profile(self, profile: model.PortProfile | None) -> int | None:
        """Return the switch's final response, or the last one before the deadline."""
        try:
            self.links.request_port_profile(self.pf, self.index, profile)
        except LinkError as error:
            raise VfRefusedError(f"{self.name}: {error}") from error
        deadline = Deadline.after(ASSOCIATION_TIMEOUT_S, self.clock)
        while True:
            response = self.links.port_profile_response(self.pf, self.index)
            if deadline.expired or response not in {None, PortResponse.IN_PROGRESS}:
                return response
            self.sleep(ASSOCIATION_POLL_S)


def _unused(state: model.VfState) -> model.VfState:
    """Return the values of an unused VF, as far as its driver reports them."""
    return model.VfState(
        mac=model.NO_MAC,
        trust=None if state.trust is None else False,
        spoof_check=None if state.spoof_check is None else True,
        link_state=None if state.link_state is None else model.LinkState.AUTO,
        min_rate_mbit_per_s=None if state.min_rate_mbit_per_s is None else 0,
        max_rate_mbit_per_s=None if state.max_rate_mbit_per_s is None else 0,
    )


def _shown(state: model.VfState, value: Value) -> str:
    match value:
        case Mac():
            return state.mac
        case VlanTag():
            return f"VLAN {state.vlan} qos {state.qos} {state.vlan_protocol}"
        case _:
            return "something else"


def _describe_response(code: int | None) -> str:
    try:
        return "no answer" if code is None else PortResponse(code).name.lower().replace("_", " ")
    except ValueError:
        return f"answer {code}"
