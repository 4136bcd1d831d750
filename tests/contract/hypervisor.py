"""Contract of a QEMU: claims that hold for the fake and for the real one.

A claim gets a pair of QEMUs: the source has a guest that releases devices and
no VF, the destination waits for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from guestagent.clock import Deadline
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.migration.guest_location import GuestLocation, location_of
from guestagent.host.model import Device, End, MigrationSettings

TIMEOUT_S = 60.0
SETTINGS = MigrationSettings(downtime_limit_ms=300, bandwidth_limit_mib_per_s=1024)
VF = Device(
    driver="e1000e",
    id="vf0",
    bus="rp2",
    properties=(("netdev", "vf"), ("mac", "52:54:00:aa:00:01"), ("romfile", "")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """The two ends of a migration; ``uri`` is the address of the destination."""

    source: Qemu
    destination: Qemu
    uri: str

    async def location(self) -> GuestLocation:
        """Query both ends for the location of the guest."""
        return location_of(await self.source.look(), await self.destination.look())

    async def location_once_arrived(self) -> GuestLocation:
        """Query the location of the guest until it has arrived."""
        deadline = Deadline.after(TIMEOUT_S)
        while (
            location := await self.location()
        ) is GuestLocation.ARRIVING and not deadline.expired:
            await self.destination.wait_for_change(0.2)
        return location

    async def source_once_left(self) -> str | None:
        """Return the run state of the source once it has left ``finish-migrate``.

        QEMU reports first that a migration is complete, and then that its guest has left
        (Q: migration/migration.c, migration_completion and migration_iteration_finish (10.0)).
        """
        deadline = Deadline.after(TIMEOUT_S)
        while True:
            state = (await self.source.look()).run_state
            if state != "finish-migrate" or deadline.expired:
                return state
            await self.source.wait_for_change(0.2)


Claim = Callable[[Both], Awaitable[None]]
CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    """Count a function among the claims."""
    CLAIMS[function.__name__] = function
    return function


async def refusal(request: Awaitable[None]) -> str:
    """Return the message of a refused request."""
    try:
        await request
    except RefusedError as error:
        return str(error)
    raise AssertionError("the request was not refused")


@claim
async def both_ends_report_where_the_guest_is(both: Both) -> None:
    source, destination = await both.source.look(), await both.destination.look()
    assert source.running
    assert source.migration is None
    assert (destination.run_state, destination.migration) == ("inmigrate", None)
    assert source.unreachable is destination.unreachable is None
    assert location_of(source, destination) is GuestLocation.SOURCE


@claim
async def a_plugged_device_is_there_until_the_guest_has_released_it(both: Both) -> None:
    await both.source.plug(VF, TIMEOUT_S)
    assert VF.id in (await both.source.look()).devices
    await both.source.unplug(VF.id, TIMEOUT_S)
    assert VF.id not in (await both.source.look()).devices
    added, deleted = both.source.moments
    assert (added.name, added.vf, added.end) == ("device_added", VF.id, End.SOURCE)
    assert (deleted.name, deleted.vf, deleted.end) == ("device_deleted", VF.id, End.SOURCE)
    assert added.at_s <= deleted.received_s


@claim
async def a_plugged_device_is_in_the_topology(both: Both) -> None:
    await both.source.plug(VF, TIMEOUT_S)
    (nic,) = [known for known in (await both.source.topology()).devices if known.id == VF.id]
    assert (nic.driver, nic.mac, nic.is_nic) == ("e1000e", "52:54:00:aa:00:01", True)


@claim
async def a_device_that_is_not_there_counts_as_released(both: Both) -> None:
    await both.source.unplug("nobody", TIMEOUT_S)


@claim
async def one_id_and_one_port_take_one_device(both: Both) -> None:
    await both.source.plug(VF, TIMEOUT_S)
    assert "Duplicate device ID" in await refusal(both.source.plug(VF, TIMEOUT_S))
    other = Device(driver="e1000e", id="vf1", bus=VF.bus)
    assert "already occupied" in await refusal(both.source.plug(other, TIMEOUT_S))
    assert (await both.source.look()).devices >= {VF.id}


@claim
async def a_guest_moves_and_both_ends_report_it(both: Both) -> None:
    await both.destination.expect_migration(both.uri, SETTINGS)
    await both.source.start_migration(both.uri, SETTINGS)
    seen = [progress async for progress in both.source.follow_migration(SETTINGS)]
    assert all(0 <= progress.remaining_bytes <= progress.total_bytes for progress in seen)
    assert await both.location_once_arrived() is GuestLocation.DESTINATION
    assert await both.source_once_left() == "postmigrate"
    figures = await both.source.figures()
    assert figures is not None
    assert figures.total_ms >= 0
    assert figures.transferred_bytes > 0
    assert "stop" in [moment.name for moment in both.source.moments]
    assert "resume" in [moment.name for moment in both.destination.moments]


@claim
async def a_guest_moves_over_several_connections(both: Both) -> None:
    several = replace(SETTINGS, multifd_channels=2, auto_converge=True)
    await both.destination.expect_migration(both.uri, several)
    await both.source.start_migration(both.uri, several)
    async for _ in both.source.follow_migration(several):
        pass
    assert await both.location_once_arrived() is GuestLocation.DESTINATION
    for qemu in (both.source, both.destination):
        shown = await qemu._run("query-migrate-capabilities")
        on = {each.string("capability") for each in shown.items() if each.boolean("state")}
        assert on >= {"multifd", "auto-converge", "return-path"}
        parameters = await qemu._run("query-migrate-parameters")
        assert parameters.integer("multifd-channels") == 2
        limited = parameters.integer("max-bandwidth") == 1024 * 2**20
        assert limited is (qemu is both.source), "the limit is not the guest's next one"


NOT_OURS = "validate-uuid"


@claim
async def capabilities_of_an_earlier_attempt_are_off_for_the_next(both: Both) -> None:
    for qemu in (both.source, both.destination):
        earlier = [
            {"capability": name, "state": True} for name in ("multifd", "auto-converge", NOT_OURS)
        ]
        await qemu._run("migrate-set-capabilities", {"capabilities": earlier})
    await both.destination.expect_migration(both.uri, SETTINGS)
    await both.source.start_migration(both.uri, SETTINGS)
    async for _ in both.source.follow_migration(SETTINGS):
        pass
    assert await both.source_once_left() == "postmigrate"
    for qemu in (both.source, both.destination):
        shown = await qemu._run("query-migrate-capabilities")
        on = {each.string("capability") for each in shown.items() if each.boolean("state")}
        needed = {name for name, is_needed in SETTINGS.capabilities.items() if is_needed}
        assert on == needed | {NOT_OURS}


@claim
async def both_ends_report_their_capabilities(both: Both) -> None:
    for qemu in (both.source, both.destination):
        means = await qemu.capabilities()
        everything = replace(SETTINGS, postcopy=True, multifd_channels=2, auto_converge=True)
        assert set(everything.capabilities) <= means.capabilities
        assert means.memory_bytes > 0
        assert means.version >= (7, 2)


@claim
async def ports_and_standby_are_seen_before_the_guest_is_there(both: Both) -> None:
    there, here = await both.destination.topology(), await both.source.topology()
    places = [
        {port.id: (port.address, port.device) for port in end.ports} for end in (here, there)
    ]
    assert places[0] == places[1]
    assert places[0]["rp2"][1] is None
    for end in (here, there):
        (standby,) = [each for each in end.devices if each.id == "net0"]
        assert (standby.mac, standby.port) == ("52:54:00:aa:00:01", "rp1")


@claim
async def a_guest_that_is_sent_nowhere_stays(both: Both) -> None:
    with contextlib.suppress(RefusedError):  # some versions refuse at once
        await both.source.start_migration(both.uri, SETTINGS)
    async for _ in both.source.follow_migration(SETTINGS):
        pass
    view = await both.source.look()
    assert view.running
    assert view.migration in {"failed", None}
    assert await both.source.figures() is None
    assert await both.location() is GuestLocation.SOURCE


@claim
async def a_destination_listens_once(both: Both) -> None:
    await both.destination.expect_migration(both.uri, SETTINGS)
    assert "already been started" in await refusal(
        both.destination.expect_migration(both.uri, SETTINGS)
    )


@claim
async def only_a_qemu_that_waits_accepts_a_guest(both: Both) -> None:
    assert "-incoming" in await refusal(both.source.expect_migration(both.uri, SETTINGS))


@claim
async def a_connection_may_be_made_again(both: Both) -> None:
    assert (await both.source.look()).running
    await both.source.close()
    assert (await both.source.look()).running
