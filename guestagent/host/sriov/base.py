"""The interface of a host's VF pool.

A migration calls the pools of both hosts in this order. Each call may be repeated after a crash,
with the same result:

======================  ==========================================================
source                  destination
======================  ==========================================================
``adopt`` or the        ``claim``: the VF is reserved before the source unplugs anything
existing lease
the guest switches
the VF is unplugged
``withdraw``            ``open_standby``, before the guest runs here
the guest moves         the guest runs
                        ``program``, then the VF is plugged
``release``,            the guest uses it: ``settle``
``close_standby``
======================  ==========================================================

If the migration fails, the source calls ``program`` again with the settings of its lease, plugs
the VF and calls ``settle``; the destination calls ``release`` and ``close_standby``. Forwarding to
the standby stays enabled until ``settle``, so that no frame is lost while the VF is plugged again.
Only if a driver refuses a MAC that is in its PF's filter does ``program`` disable it sooner, with
a warning.
"""

from __future__ import annotations

from typing import Protocol

from guestagent.errors import ConflictError, PeerError
from guestagent.host.sriov.core import model


class NoVfError(ConflictError):
    """No VF of this host fits and is free; the message has the reason for each candidate."""


class NotLeasedError(ConflictError):
    """The lease has ended or belongs to another owner."""


class VfRefusedError(PeerError):
    """The PF's driver or vfio refused a required value; the VF is safe but not usable."""


class VfPool(Protocol):
    """The VFs of one host. Every wait is bounded, and a VF is changed only under a lease.

    All methods raise SystemLacksError if this host lacks a right or a module. Those that take a
    lease raise NotLeasedError if it has ended.
    """

    async def inventory(self) -> model.Inventory:
        """Return every PF and VF with its user."""

    async def leases(self, vm: str | None = None) -> tuple[model.Lease, ...]:
        """Return all leases, of one VM if given, including those of helpers that died."""

    async def claim(self, want: model.Want, owner: model.LeaseOwner) -> model.Lease:
        """Reserve the VF that fits best for ``owner`` until it is released.

        An owner may hold several. If ``want`` names a VF that the owner holds already, that lease
        is returned. The VF is not changed yet. Raises NoVfError.
        """

    async def adopt(
        self, vf: str, owner: model.LeaseOwner, settings: model.VfSettings
    ) -> model.Lease:
        """Take a lease on a VF that the owner's VM uses already, without changing the VF.

        ``settings`` are the values to program after a failed migration. A lease of the same VM
        from an earlier operation passes to this owner. Raises NoVfError if the VF does not exist
        or another VM holds it.
        """

    async def program(self, lease: model.Lease, settings: model.VfSettings) -> model.Lease:
        """Prepare the VF for its plug: write it through the PF, read it back, bind it to vfio.

        Returns the lease with these settings and the warnings of this step. After a
        VfRefusedError the VF has no MAC of the tenant, and frames are forwarded to the standby.
        """

    async def settle(self, lease: model.Lease) -> model.Lease:
        """Disable forwarding to the standby, as the guest uses the VF."""

    async def withdraw(self, lease: model.Lease) -> model.Lease:
        """Clear the MAC of an unplugged VF and enable forwarding to the standby.

        The lease stays, since the VF may have to be plugged again. Raises DeadlineError without
        a change if a process still has the VF open.
        """

    async def release(self, lease: model.Lease) -> tuple[str, ...]:
        """Clear the VF, restore its former driver and values, end the lease; return warnings.

        A lease that has ended already is no error. Raises DeadlineError if a process still has
        the VF open, and VfRefusedError if its MAC or VLAN cannot be cleared: the lease then
        stays, so that no other VM gets the VF.
        """

    async def open_standby(self, standby: model.Standby) -> tuple[str, ...]:
        """Have the host forward this MAC to the standby while no VF has it; return warnings."""

    async def close_standby(self, standby: model.Standby) -> tuple[str, ...]:
        """Undo ``open_standby``; return warnings."""

    async def create_macvtap(self, lease: model.Lease, name: str, mac: str) -> model.Macvtap:
        """Create a macvtap for the standby on the PF of a claimed VF, and bring it up.

        For use before QEMU starts. The release deletes it unless a process has it open. Raises
        ConflictError if another interface has the name.
        """


class LocalVfPool(VfPool, Protocol):
    """The VFs of this host, in a thread of its own."""

    async def close(self) -> None:
        """Wait for the call under way and end the thread."""
