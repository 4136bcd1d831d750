"""The process of ``guestagent run``: sockets, signals and events around the agent."""

from __future__ import annotations

import asyncio
import signal

from guestagent.guest.api.unix_socket import ControlSocket
from guestagent.guest.api.virtio_serial import HostChannel
from guestagent.guest.kernel.events import LinkEvents
from guestagent.guest.kernel.udev import UdevEvents
from guestagent.guest.service import sd_notify
from guestagent.guest.service.agent import Agent
from guestagent.guest.service.requests import Requests
from guestagent.guest.state.lock import WriterLock


async def run(agent: Agent) -> None:
    """Serve until SIGTERM or SIGINT; the bonds stay as they are.

    Raises SystemLacksError when the first convergence shows that the system lacks a
    prerequisite of every bond.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    # Subscribed before the first observation: no later change is missed.
    links, udev = LinkEvents(), UdevEvents()
    requests = Requests(agent)
    control = ControlSocket(requests, group=agent.policy.control_group)
    channel = HostChannel(requests)
    writer = WriterLock()
    await asyncio.to_thread(writer.wait)
    try:
        _watch(agent, channel, links, udev)
        await control.start()
        agent.background(channel.run())
        if agent.policy.health.gateway:
            agent.background(agent.paths.run())
        await agent.serve()
    finally:
        sd_notify.notify("STOPPING=1")
        await control.stop()
        loop.remove_reader(links.fileno())
        loop.remove_reader(udev.fileno())
        links.close()
        await agent.close()
        writer.release()


def _watch(agent: Agent, channel: HostChannel, links: LinkEvents, udev: UdevEvents) -> None:
    """Mark the agent as dirty at every event."""
    loop = asyncio.get_running_loop()

    def link_changed() -> None:
        drained = links.drain()
        if drained.announcing or drained.overflown:
            agent.background(agent.announce_for(drained))
        agent.mark_dirty()

    def udev_changed() -> None:
        watched = udev.fileno()
        udev.drain()
        if udev.fileno() != watched:
            loop.remove_reader(watched)
            loop.add_reader(udev.fileno(), udev_changed)
        channel.device_changed()
        agent.mark_dirty()

    loop.add_reader(links.fileno(), link_changed)
    loop.add_reader(udev.fileno(), udev_changed)
