"""NetworkManager's profiles in keyfiles, and the choice of the one for a NIC. Pure.

nm-settings-keyfile(5), nm-settings(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guestagent.guest.core.link import Link
from guestagent.guest.stacks.ini import Sections, fits, parse, value_of

ETHERNET = ("ethernet", "802-3-ethernet")
"""Names of the type and of its section; the first is the short form of keyfiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile, with the properties that decide whether a NIC gets it."""

    path: Path
    sections: Sections
    last_used: int = 0

    @classmethod
    def read(cls, path: Path, text: str, used: Mapping[str, str]) -> Profile:
        """Return the profile in a file; ``used`` has the time of the last use by UUID."""
        sections = parse(text)
        last = used.get(value_of(sections, "connection", "uuid") or "", "0")
        return cls(path=path, sections=sections, last_used=int(last) if last.isdigit() else 0)

    def get(self, section: str, key: str) -> str | None:
        """Return a value, or None."""
        return value_of(self.sections, section, key)

    @property
    def is_generated(self) -> bool:
        """Whether NetworkManager generated it for a device that had no profile."""
        return self.get(".nmmeta", "nm-generated") == "true"

    @property
    def is_external(self) -> bool:
        """Whether NetworkManager generated it for a device that another program configured."""
        return self.get(".nmmeta", "external") == "true"

    @property
    def is_rewritten(self) -> bool:
        """Whether the agent has replaced the content of a generated profile."""
        return (self.get("connection", "id") or "").startswith("guestagent-")

    @property
    def interface(self) -> str | None:
        """Name of the interface that it is for, or None."""
        return self.get("connection", "interface-name")

    @property
    def priority(self) -> int:
        """Precedence among profiles that fit one NIC."""
        text = self.get("connection", "autoconnect-priority") or "0"
        return int(text) if text.lstrip("-").isdigit() else 0

    @property
    def controller(self) -> str | None:
        """Name or UUID of the device of which the NIC becomes a port, or None."""
        return self.get("connection", "controller") or self.get("connection", "master")

    def fits(self, nic: Link) -> bool:
        """Whether NetworkManager activates it on a NIC without being asked."""
        mac = self.get("ethernet", "mac-address") or self.get("802-3-ethernet", "mac-address")
        names = self.get("match", "interface-name")
        drivers = self.get("match", "driver")
        return (
            self.get("connection", "type") in ETHERNET
            and (self.get("connection", "autoconnect") or "true") != "false"
            and self.interface in {None, nic.name}
            and (mac is None or mac.lower() == nic.permanent_address)
            and (names is None or fits(_globs(names), nic.name))
            and (drivers is None or fits(_globs(drivers), nic.driver or ""))
        )


def choose(profiles: tuple[Profile, ...], nic: Link) -> Profile | None:
    """Return the profile that NetworkManager activates on a NIC: by priority, then latest use."""
    fitting = [profile for profile in profiles if profile.fits(nic)]
    return max(fitting, key=lambda item: (item.priority, item.last_used), default=None)


def _globs(value: str) -> list[str]:
    """Return the globs of a list (nm-settings(5), match)."""
    return [item.lstrip("|&") for item in value.replace(";", " ").split()]
