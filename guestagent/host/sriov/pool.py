"""The VFs of this host: the operations of ``VfPool`` on the real kernel.

``Pool`` performs them synchronously; ``InThread`` offers them to an event loop, in one thread of
its own. A step writes the lease before it changes the VF: a lease that is found after a crash
describes what may have been changed. All steps can be repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from guestagent.clock import Clock, Sleep
from guestagent.errors import GuestAgentError, SystemLacksError
from guestagent.forwarding import Call, Forwarder, calls_of
from guestagent.host.sriov import base, macvtap, standby_forwarding
from guestagent.host.sriov.core import model
from guestagent.host.sriov.core.choose import choose, unfit_vf
from guestagent.host.sriov.inventory import embedded_switches, interface_of, read_inventory
from guestagent.host.sriov.links import Links
from guestagent.host.sriov.pf import VfPort
from guestagent.host.sriov.records import DIRECTORY, Records
from guestagent.host.sriov.vfio import VFIO, Roots, Vfio

CLOSE_TIMEOUT_S = 30.0


class Pool:
    """The operations of ``VfPool``, synchronous, with the leases in ``directory``; for one thread.

    ``VfPool`` documents the methods.
    """

    def __init__(
        self,
        directory: Path,
        links: Links,
        *,
        vfio: Vfio | None = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = time.sleep,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self._records = Records(directory, clock=clock, sleep=sleep)
        self._links = links
        self._vfio = vfio or Vfio(clock=clock, sleep=sleep)
        self._clock = clock
        self._sleep = sleep
        self._close_timeout_s = close_timeout_s

    @property
    def roots(self) -> Roots:
        """Mount points of the kernel's file systems."""
        return self._vfio.roots

    def inventory(self) -> model.Inventory:
        return read_inventory(self.roots, self._links, self._records.all())

    def leases(self, vm: str | None = None) -> tuple[model.Lease, ...]:
        found = self._records.all().values()
        return tuple(lease for lease in found if vm is None or lease.owner.vm == vm)

    def claim(self, want: model.Want, owner: model.LeaseOwner) -> model.Lease:
        with self._records.changing():
            held = self._records.all().get(want.vf or "")
            if held is not None and held.owner == owner:
                return held
            choice = choose(self.inventory(), want)
            if choice.pf is None or choice.vf is None:
                raise base.NoVfError(
                    "no VF fits and is free: " + "; ".join(choice.reasons),
                    hint="guestagent-host vf list shows who has which VF",
                )
            if choice.vf.state is None:
                raise base.NoVfError(f"{choice.vf.address}: {choice.pf.name} does not report it")
            lease = self._lease(choice.pf, choice.vf, owner, prior=choice.vf.state)
            self._records.create(lease)
            return lease

    def adopt(self, vf: str, owner: model.LeaseOwner, settings: model.VfSettings) -> model.Lease:
        with self._records.changing():
            found = self.inventory().vf(vf)
            if found is None:
                raise base.NoVfError(f"{vf}: there is no such VF on this host")
            lease = found[1].lease
            if lease is None:
                if found[1].user is None and (why := unfit_vf(found[1])) is not None:
                    raise base.NoVfError(f"{vf}: {why}")
                lease = self._lease(*found, owner, prior=None, settings=settings)
                self._records.create(lease)
                return lease
            if lease.owner.vm != owner.vm:
                raise base.NoVfError(f"{vf}: held by lease of {lease.owner}")
            lease = replace(lease, owner=owner, settings=settings)
            self._records.replace(lease)
            return lease

    def program(self, lease: model.Lease, settings: model.VfSettings) -> model.Lease:
        self._vfio.wait_closed(self._records.held(lease).vf, self._close_timeout_s)
        lease = self._keep(lease, (), settings)
        port = self._port(lease)
        if self._vfio.driver(lease.vf) != VFIO:
            # The MAC must be there before a driver asks the PF for it.
            self._vfio.unbind(lease.vf)
        try:
            warnings = self._write(lease, port, settings)
            self._vfio.bind(lease.vf, VFIO, VFIO)
            port.check_mac(settings.mac)
        except GuestAgentError:
            self._make_harmless(port, settings)
            raise
        return self._keep(lease, warnings)

    def settle(self, lease: model.Lease) -> model.Lease:
        lease = self._records.held(lease)
        standby = None if lease.settings is None else lease.settings.standby
        warnings = () if standby is None else self.close_standby(standby)
        return self._keep(lease, warnings)

    def withdraw(self, lease: model.Lease) -> model.Lease:
        lease = self._records.held(lease)
        self._vfio.wait_closed(lease.vf, self._close_timeout_s)
        if lease.settings is None:
            return lease
        self._port(lease).clear_mac(lease.settings.mac)
        standby = lease.settings.standby
        warnings = () if standby is None else self.open_standby(standby)
        return self._keep(lease, warnings)

    def release(self, lease: model.Lease) -> tuple[str, ...]:
        try:
            lease = self._records.held(lease)
        except base.NotLeasedError:
            return ()
        if not self.roots.device(lease.vf).exists():
            self._end(lease)
            return (f"{lease.vf}: no longer exists; its lease was ended",)
        warnings: tuple[str, ...] = ()
        self._vfio.wait_closed(lease.vf, self._close_timeout_s)
        if lease.settings is not None:
            warnings += self._port(lease).restore(lease.settings, lease.prior)
            warnings += self._restore_driver(lease)
        warnings += macvtap.remove_unused(self._links, lease.vf, self.roots)
        self._end(lease)
        return warnings

    def create_macvtap(self, lease: model.Lease, name: str, mac: str) -> model.Macvtap:
        lease = self._records.held(lease)
        return macvtap.create(self._links, lease.vf, self._port(lease).pf, name, mac)

    def open_standby(self, standby: model.Standby) -> tuple[str, ...]:
        return standby_forwarding.enable(self._links, standby, self._pfs())

    def close_standby(self, standby: model.Standby) -> tuple[str, ...]:
        return standby_forwarding.disable(self._links, standby, self._pfs())

    def _restore_driver(self, lease: model.Lease) -> tuple[str, ...]:
        """Bind a cleared VF to its former driver; a driver that refuses it is a warning."""
        if lease.prior is None:
            return ()
        try:
            self._vfio.bind(lease.vf, lease.former_driver, lease.former_override)
        except SystemLacksError as error:
            return (f"{error}; {lease.vf} is clear and free",)
        return ()

    def _write(
        self, lease: model.Lease, port: VfPort, settings: model.VfSettings
    ) -> tuple[str, ...]:
        """Write the settings; if refused, once more with forwarding to the standby disabled.

        Some drivers refuse a MAC that is in the filter of the PF.
        """
        try:
            return port.program(settings)
        except base.VfRefusedError as error:
            if settings.standby is None:
                raise
            disabled = self.close_standby(settings.standby)
            written = port.program(settings)
            warning = (
                f"{lease.vf}: {error}; written after forwarding to the standby was disabled, so"
                " frames to the guest are lost until it uses the VF"
            )
            return (warning, *disabled, *written)

    def _make_harmless(self, port: VfPort, settings: model.VfSettings) -> None:
        """Clear the tenant's MAC on a VF that will not be used."""
        port.clear_mac(settings.mac)
        if settings.standby is not None:
            self.open_standby(settings.standby)

    def _port(self, lease: model.Lease) -> VfPort:
        """Return a VF's port; the interface of its PF may have another name or index by now."""
        links = {link.name: link for link in self._links.links()}
        link = interface_of(self.roots.device(lease.pf), links)
        if link is None:
            raise base.VfRefusedError(
                f"{lease.vf}: its PF {lease.pf} has no interface here",
                hint="bind the PF to its driver, in this network namespace",
            )
        return VfPort(
            links=self._links,
            pf=link.ifindex,
            index=lease.index,
            name=f"{lease.vf} (VF {lease.index} of {link.name})",
            clock=self._clock,
            sleep=self._sleep,
        )

    def _pfs(self) -> frozenset[int]:
        """Return the interfaces with an embedded switch in use: the PFs that have VFs."""
        links = {link.name: link for link in self._links.links()}
        return embedded_switches(self.roots, links)

    def _keep(
        self,
        lease: model.Lease,
        warnings: tuple[str, ...],
        settings: model.VfSettings | None = None,
    ) -> model.Lease:
        """Update the record of a lease that has not ended. Raises NotLeasedError."""
        with self._records.changing():
            current = self._records.held(lease)
            settings = settings or current.settings
            kept = replace(current, settings=settings, warnings=warnings)
            if kept != current:
                self._records.replace(kept)
            return kept

    def _end(self, lease: model.Lease) -> None:
        with self._records.changing():
            self._records.remove(self._records.held(lease))

    def _lease(
        self,
        pf: model.Pf,
        vf: model.Vf,
        owner: model.LeaseOwner,
        *,
        prior: model.VfState | None,
        settings: model.VfSettings | None = None,
    ) -> model.Lease:
        return model.Lease(
            vf=vf.address,
            pf=pf.address,
            pf_name=pf.name,
            index=vf.index,
            owner=owner,
            claimed_at=datetime.now(UTC).isoformat(timespec="seconds"),
            prior=prior,
            former_driver=vf.driver,
            former_override=self._vfio.override(vf.address),
            settings=settings,
        )


class InThread(Forwarder):
    """The operations of ``VfPool`` on a ``Pool`` that ``make`` makes in a thread of its own.

    A cancelled call goes on in the thread until its bounded end; the next one waits for it.
    """

    def __init__(self, make: Callable[[], Pool]) -> None:
        super().__init__(calls_of(base.VfPool), self._perform)
        self._make = make
        self._pool: Pool | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sriov")

    async def close(self) -> None:
        """Wait for the call under way and end the thread."""
        self._thread.shutdown()

    async def _perform(self, _: str, call: Call, arguments: tuple[object, ...]) -> object:
        def work() -> object:
            try:
                if self._pool is None:
                    self._pool = self._make()
                return call.on(self._pool, arguments)
            except OSError as error:  # a full disk, a device that goes while it is read
                what = f"{error.filename or 'the VFs of this host'}: {error.strerror or error}"
                raise SystemLacksError(what, hint="see the disk, and journalctl -k") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def pool_in_thread(make: Callable[[], Pool]) -> base.LocalVfPool:
    """Return the pool that ``make`` makes, for an event loop; see ``InThread``."""
    return cast("base.LocalVfPool", InThread(make))


def host_pool(state_dir: Path, *, close_timeout_s: float = CLOSE_TIMEOUT_S) -> base.LocalVfPool:
    """Return the pool of this host, with its leases below ``state_dir``.

    ``close_timeout_s`` is the longest wait for a process that has a VF open.
    """

    def make() -> Pool:
        # Commands without VFs are spared the time that pyroute2 takes to load.
        from guestagent.host.sriov.netlink import NetlinkLinks

        return Pool(state_dir / DIRECTORY, NetlinkLinks(), close_timeout_s=close_timeout_s)

    return pool_in_thread(make)
