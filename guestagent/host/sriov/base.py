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
from guestagent.host.sriov.core.model import (
    Inventory,
    Lease,
    LeaseOwner,
    Macvtap,
    Standby,
    VfSettings,
    Want,
)


class NoVfError(ConflictError):
    """No VF of this host fits and is free; the message has the reason for each candidate."""


class NotLeasedError(ConflictError):
    """The lease has ended or belongs to another owner."""


class VfRefusedError(PeerError):
    """The PF's driver or vfio refused a required value; the VF is safe but not usable."""


class VfPool(Protocol):
    """The VFs of one host. Every wait is bounded; nothing is done to a VF without a lease.

    All methods raise SystemLacksError when this host cannot do it at all (no
    right, no module). Those that take a lease raise NotLeasedError when it does
    not hold any more.
    """

    async def inventory(self) -> Inventory:
        """Return every PF and VF, and who has it."""
        ...

    async def leases(self, vm: str | None = None) -> tuple[Lease, ...]:
        """Return all leases, of one VM if given, also those of helpers that have died."""
        ...

    async def claim(self, want: Want, owner: LeaseOwner) -> Lease:
        """Promise the VF that fits best to ``owner``, and to nobody else until it is released.

        An owner may hold several. One that names a VF which it holds already gets
        that lease again. Nothing of the VF is changed yet. Raises NoVfError.
        """
        ...

    async def adopt(self, vf: str, owner: LeaseOwner, settings: VfSettings) -> Lease:
        """Take the lease on a VF that the owner's VM is using already, without touching it.

        ``settings`` are what it has to be again after a failed migration. A lease
        that the same VM has from an earlier operation passes over to this one.
        Raises NoVfError when there is no such VF or when another VM holds it.
        """
        ...

    async def program(self, lease: Lease, settings: VfSettings) -> Lease:
        """Make the VF ready to be plugged: written through the PF, read back, bound to vfio.

        Returns the lease with these settings and the warnings of this step.
        Raises VfRefusedError; then the VF has no MAC of the tenant, and the
        standby's path is open.
        """
        ...

    async def settle(self, lease: Lease) -> Lease:
        """The guest uses the VF: take the standby's MAC from the PF and its bridge."""
        ...

    async def withdraw(self, lease: Lease) -> Lease:
        """The VF has been unplugged: wait for vfio, clear its MAC, open the standby's path.

        The lease is kept, for the VF may have to come back. Raises DeadlineError
        when a process still has the VF; nothing was changed then.
        """
        ...

    async def release(self, lease: Lease) -> tuple[str, ...]:
        """Clear the VF, give it back as it was, and end the lease; returns warnings.

        A lease that has ended already is fine. Raises DeadlineError when a process
        still has the VF, and VfRefusedError when its MAC or VLAN could not be
        cleared: the lease then stays, so that nobody else gets it.
        """
        ...

    async def open_standby(self, standby: Standby) -> tuple[str, ...]:
        """Have the host deliver this MAC to the standby, where no VF of it does; warnings."""
        ...

    async def close_standby(self, standby: Standby) -> tuple[str, ...]:
        """Undo ``open_standby``; what is not there is fine."""
        ...

    async def create_macvtap(self, lease: Lease, name: str, mac: str) -> Macvtap:
        """Make a macvtap for the standby on the PF of a claimed VF, up, before QEMU starts.

        The release deletes it unless a process has it open. Raises ConflictError
        when something else has the name.
        """
        ...


class LocalVfPool(VfPool, Protocol):
    """The VFs of this host, with the connection to its kernel."""

    async def close(self) -> None:
        """Wait for the call under way and close the connection."""
        ...
