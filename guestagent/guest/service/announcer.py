"""Announcements of bonds: at once, then repeated a few times."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from guestagent.errors import GuestAgentError
from guestagent.guest.core.addressing import Address
from guestagent.guest.core.announcement import Frame, address_frames, interfaces, location_frame
from guestagent.guest.core.journal_ids import JournalId, fields
from guestagent.guest.core.link import Link
from guestagent.guest.core.policy import BondOptions
from guestagent.guest.core.snapshot import Snapshot

AddressLookup = Callable[[int], Awaitable[tuple[Address, ...]]]
Send = Callable[[tuple[Frame, ...]], int]
_log = logging.getLogger("guestagent.announce")


class Announcer:
    """Sends the announcements of bonds; repeats run in the background."""

    def __init__(
        self,
        *,
        options: Callable[[Link], BondOptions],
        addresses: AddressLookup,
        send: Send,
    ) -> None:
        self._options = options
        self._addresses = addresses
        self._send = send
        self._repeating: dict[str, asyncio.Task[None]] = {}
        self.sent: Counter[str] = Counter()
        """Frames by the name of the bond."""

    async def announce(self, snapshot: Snapshot, bond: Link) -> int:
        """Announce a bond and its VLANs; return the number of frames sent at once.

        The frames for switches go first, from the snapshot; then each address is
        announced, read anew. Repeats follow in the background and replace those of
        an earlier announcement. Raises GuestAgentError.
        """
        links = interfaces(snapshot, bond)
        self._stop(bond.name)
        first = self._sent(bond.name, tuple(location_frame(link) for link in links))
        first += self._sent(bond.name, await self._frames(links))
        options = self._options(bond)
        if options.announcements > 1:
            task = asyncio.create_task(self._repeat(bond.name, links, options))
            self._repeating[bond.name] = task
        extra = fields(JournalId.ANNOUNCED, BOND=bond.name, FRAMES=first)
        _log.info("announced %d times", first, extra=extra)
        return first

    async def stop(self) -> None:
        """End all repeats."""
        for name in tuple(self._repeating):
            self._stop(name)

    def _stop(self, name: str) -> None:
        task = self._repeating.pop(name, None)
        if task is not None:
            task.cancel()

    async def _repeat(self, bond: str, links: tuple[Link, ...], options: BondOptions) -> None:
        for _ in range(options.announcements - 1):
            await asyncio.sleep(options.announcement_spacing_ms / 1000)
            try:
                self._sent(bond, await self._frames(links))
            except GuestAgentError as error:
                _log.warning("could not announce again: %s, ignoring", error)

    async def _frames(self, links: tuple[Link, ...]) -> tuple[Frame, ...]:
        frames: list[Frame] = []
        for link in links:
            frames.extend(address_frames(link, await self._addresses(link.ifindex)))
        return tuple(frames)

    def _sent(self, bond: str, frames: tuple[Frame, ...]) -> int:
        try:
            count = self._send(frames)
        except OSError as error:
            raise GuestAgentError(
                f"cannot announce: {error}", hint="the agent needs CAP_NET_RAW"
            ) from error
        self.sent[bond] += count
        return count
