"""Single values of a VF that are written through its PF, one netlink attribute each. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guestagent.host.sriov.core.model import LinkState, VfSettings, VfState, VlanProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Mac:
    """The MAC address that the guest's driver finds."""

    mac: str

    def shown_by(self, state: VfState) -> bool:
        """Whether the VF has it."""
        return state.mac == self.mac

    def __str__(self) -> str:
        return f"MAC {self.mac}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanTag:
    """The tag that the PF adds and removes; VLAN 0 is none."""

    vlan: int
    qos: int
    protocol: VlanProtocol

    def shown_by(self, state: VfState) -> bool:
        """Whether the VF has it; a protocol means nothing without a tag."""
        same = (state.vlan, state.qos) == (self.vlan, self.qos)
        return same and (not self.vlan or state.vlan_protocol is self.protocol)

    def __str__(self) -> str:
        return f"VLAN {self.vlan} qos {self.qos} {self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whether the guest may be promiscuous and change its MAC."""

    on: bool

    def shown_by(self, state: VfState) -> bool:
        """Whether the VF has it."""
        return state.trust is self.on

    def __str__(self) -> str:
        return f"trust {'on' if self.on else 'off'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofCheck:
    """Whether frames with another source MAC are dropped."""

    on: bool

    def shown_by(self, state: VfState) -> bool:
        """Whether the VF has it."""
        return state.spoof_check is self.on

    def __str__(self) -> str:
        return f"spoof check {'on' if self.on else 'off'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """The carrier of the VF."""

    state: LinkState

    def shown_by(self, state: VfState) -> bool:
        """Whether the VF has it."""
        return state.link_state is self.state

    def __str__(self) -> str:
        return f"link state {self.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The bandwidth that the VF has at least and at most; 0 is no limit."""

    min_mbit_per_s: int
    max_mbit_per_s: int

    def shown_by(self, state: VfState) -> bool:
        """Whether the VF has it."""
        shown = (state.min_rate_mbit_per_s or 0, state.max_rate_mbit_per_s or 0)
        return shown == (self.min_mbit_per_s, self.max_mbit_per_s)

    def __str__(self) -> str:
        return f"rate {self.min_mbit_per_s} to {self.max_mbit_per_s} Mbit/s"


Value = Mac | VlanTag | Trust | SpoofCheck | Carrier | Rate


def required(settings: VfSettings) -> tuple[Value, ...]:
    """Return the required values: the VLAN first, since the MAC admits traffic."""
    vlan = VlanTag(vlan=settings.vlan, qos=settings.qos, protocol=settings.vlan_protocol)
    return vlan, Mac(mac=settings.mac)


def optional(wanted: VfSettings | VfState, state: VfState) -> tuple[Value, ...]:
    """Return the values besides MAC and VLAN that are wanted and differ from the VF's.

    Those are the operator's, or the former values of the VF. Equal ones are not written: igb
    refuses every link state, even the present one. A rate that is not given keeps its value.
    Trust comes first: without it some drivers refuse the rest.
    """
    return tuple(value for value in _optional(wanted, state) if not value.shown_by(state))


def _optional(wanted: VfSettings | VfState, state: VfState) -> Iterator[Value]:
    if wanted.trust is not None:
        yield Trust(on=wanted.trust)
    if wanted.spoof_check is not None:
        yield SpoofCheck(on=wanted.spoof_check)
    if wanted.link_state is not None:
        yield Carrier(state=wanted.link_state)
    low, high = wanted.min_rate_mbit_per_s, wanted.max_rate_mbit_per_s
    if low is not None or high is not None:
        yield Rate(
            min_mbit_per_s=(state.min_rate_mbit_per_s or 0) if low is None else low,
            max_mbit_per_s=(state.max_rate_mbit_per_s or 0) if high is None else high,
        )
