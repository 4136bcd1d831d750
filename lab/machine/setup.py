"""Set-up of a guest: its NIC pairs, ports and files, and the QEMU arguments for them.

::

    rp0  virtio-net   pair 0, always there        ─── tap <name>-s0 ─┐
    rp1  (e1000e)     pair 0, the VF: hot-plugged ─── tap <name>-v0 ─┤ bridge of the host
    rp2  rp3          pair 1, if there is one                        │
    rpN  rpN+1        empty, to plug something elsewhere             ┘

Both QEMUs of a migration have the same ports; the destination starts without the VF.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.image.flavour import PLAIN, Flavour
from lab.image.seed import Files
from lab.network.wires import GUEST_STATION, PEER_STATION, Subnet, mac_of_pair

SPARE_PORTS = 2
SLOTS = 16
"""How many root ports get a slot of their own on the root bus, which has 32."""
NOWHERE = ""
PF_MAC = "52:54:00:5b:00:%02x"
FIRST_PF_CHASSIS = 96

# Debian's kernel has fq_codel as its default, which drops a packet of what has waited in a NIC's
# queue for longer than 100 ms (K: include/net/codel_impl.h, codel_dequeue): in an emulated guest
# all may, when others have the processor. No test is about that, and the one packet fails it.
# Nor is its timer broken because it was late: a kernel that counts its first ticks and misses some
# ends there (K: arch/x86/kernel/apic/io_apic.c, check_timer).
KERNEL_ARGUMENTS = (
    "console=ttyS0 root=/dev/vda rw rootfstype=ext4 fsck.mode=skip quiet loglevel=4 "
    "systemd.show_status=no mitigations=off apparmor=0 audit=0 cryptomgr.notests "
    "sysctl.net.core.default_qdisc=pfifo_fast no_timer_check"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NicPair:
    """A virtio NIC and a VF with one MAC address."""

    index: int = 0
    vf_at_boot: bool = False
    failover: bool = False
    """The guest's kernel makes the pair: QEMU's ``failover=on``, net_failover."""

    @property
    def mac(self) -> str:
        """The address that both NICs have."""
        return mac_of_pair(self.index)

    @property
    def addresses(self) -> tuple[str, str]:
        """The guest's addresses with prefix lengths, IPv4 and IPv6."""
        return Subnet.of_pair(self.index).addresses(GUEST_STATION)

    @property
    def peer_addresses(self) -> tuple[str, str]:
        """The peer's addresses on the same wire."""
        return Subnet.of_pair(self.index).addresses(PEER_STATION)

    @property
    def standby_port(self) -> str:
        """The root port of the virtio NIC."""
        return f"rp{2 * self.index}"

    @property
    def vf_port(self) -> str:
        """The root port that is kept for the VF."""
        return f"rp{2 * self.index + 1}"

    @property
    def standby(self) -> str:
        """The device id of the virtio NIC."""
        return f"nic{self.index}"

    @property
    def standby_name(self) -> str:
        """The name that the guest's udev gives the virtio NIC: after its root port's bus."""
        return f"enp{2 * self.index + 1}s0"

    @property
    def vf(self) -> str:
        """The device id of the VF, and of its network backend, which is always there."""
        return f"vf{self.index}"

    def vf_device(self) -> dict[str, str]:
        """Return the arguments of the ``device_add`` that plugs the stand-in VF."""
        return {
            "driver": "e1000e",
            "id": self.vf,
            "netdev": self.vf,
            "mac": self.mac,
            "bus": self.vf_port,
            "romfile": "",
            **({"failover_pair_id": self.standby} if self.failover else {}),
        }

    def network_file(self) -> Files:
        """Return the networkd file of a user's image, for the virtio NIC alone."""
        return PLAIN.network_files((self,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A guest. ``network_files`` None stands for those of its flavour."""

    name: str = "guest"
    host: str = "A"
    flavour: Flavour = PLAIN
    pairs: tuple[NicPair, ...] = (NicPair(),)
    network_files: Files | None = None
    files: Files = field(default_factory=dict)
    memory_mib: int = 512
    cpus: int = 2
    pfs: tuple[str, ...] = ()
    """Cards with SR-IOV (QEMU's igb) and an IOMMU: the guest is a host for other guests.

    For each its wire: the host of the network (``A``, ``B``) whose bridge it ends at, or
    ``NOWHERE``. All memory must lie below 4 GiB: with more, firmware puts the VFs' registers above
    it, and QEMU 10.0 maps those at a truncated address. Such a guest cannot be frozen.
    """
    disks: tuple[Path, ...] = ()
    """More disks, raw and read only: /dev/vdb and so on."""
    relays: tuple[str, ...] = ()
    """More virtio-serial ports ``lab.<relay>``, each with the socket ``<relay>.sock``."""
    emulated: bool = False
    """By QEMU alone, also where the processor could help."""
    more_kernel_arguments: str = ""

    def all_files(self) -> Files:
        """Return everything that is put into the guest's root before it starts."""
        own = self.flavour.network_files(self.pairs)
        given = own if self.network_files is None else self.network_files
        return {**given, **self.files}

    @property
    def kernel_arguments(self) -> str:
        """The command line of the guest's kernel."""
        parts = [KERNEL_ARGUMENTS, self.flavour.kernel_arguments, self.more_kernel_arguments]
        parts += ["intel_iommu=on iommu=pt"] if self.pfs else []
        return " ".join(part for part in parts if part)

    def taps(self) -> dict[str, str]:
        """Return the names of the tap devices, at most 15 bytes each, and the host of each."""
        pairs = {self.tap(pair, kind): self.host for pair in self.pairs for kind in ("s", "v")}
        wired = {self.pf_tap(n): host for n, host in enumerate(self.pfs) if host != NOWHERE}
        return pairs | wired

    def pf_tap(self, number: int) -> str:
        """Return the name of the tap at the end of a PF's wire."""
        return f"{self.name}-p{number}"

    def netdevs(self) -> Iterator[str]:
        """Return QEMU's ``-netdev`` arguments for the back ends of the NICs."""
        for pair in self.pairs:
            for kind, netdev in (("s", f"standby{pair.index}"), ("v", pair.vf)):
                yield _tap(netdev, self.tap(pair, kind))
        for number, host in enumerate(self.pfs):
            if host == NOWHERE:
                yield f"hubport,id=pf{number},hubid={100 + number}"
            else:
                yield _tap(f"pf{number}", self.pf_tap(number))

    def tap(self, pair: NicPair, kind: str) -> str:
        """Return the name of the tap of a pair's standby (``s``) or VF (``v``)."""
        return f"{self.name}-{kind}{pair.index}"

    def spare_ports(self) -> tuple[str, ...]:
        """Return the root ports that nothing is planned for."""
        first = 2 * len(self.pairs)
        return tuple(f"rp{number}" for number in range(first, first + SPARE_PORTS))

    def qemu_arguments(self, *, with_vfs: bool) -> tuple[str, ...]:
        """Return machine, memory, ports and NICs; ``with_vfs`` plugs those of ``vf_at_boot``."""
        return tuple(self._arguments(with_vfs=with_vfs))

    def _arguments(self, *, with_vfs: bool) -> Iterator[str]:
        # Devices that no guest of today needs cost it seconds of probing.
        slow = "sata=off,smbus=off,i8042=off,vmport=off,hpet=off"
        yield from ("-machine", f"q35,{slow}" + (",kernel-irqchip=off" if self.pfs else ""))
        if self.pfs:
            yield from ("-device", "intel-iommu,intremap=off,caching-mode=on")
        for number in range(len(self.pfs)):
            yield from ("-device", _root_port(f"rp-pf{number}", FIRST_PF_CHASSIS + number))
            card = f"igb,id=pf{number},bus=rp-pf{number},netdev=pf{number},romfile="
            yield from ("-device", f"{card},mac={PF_MAC % number}")
        yield from ("-m", str(self.memory_mib), "-smp", str(self.cpus))
        ports = 2 * len(self.pairs) + SPARE_PORTS
        for number in range(ports):
            function = _function(number) if ports > SLOTS else ""
            yield from ("-device", _root_port(f"rp{number}", number) + function)
        for pair in self.pairs:
            yield "-device"
            yield (
                f"virtio-net-pci,id={pair.standby},netdev=standby{pair.index},mac={pair.mac},"
                f"bus={pair.standby_port},romfile=" + (",failover=on" if pair.failover else "")
            )
            if with_vfs and pair.vf_at_boot:
                device = ",".join(f"{key}={value}" for key, value in pair.vf_device().items())
                yield from ("-device", device.replace("driver=", "", 1))


def _function(number: int) -> str:
    """Return where a root port is that shares its slot; it keeps no I/O ports, which are few."""
    return f",addr={SLOTS + number // 8:#x}.{number % 8},multifunction=on,io-reserve=0"


def _root_port(name: str, number: int) -> str:
    return f"pcie-root-port,id={name},chassis={number},slot={number}"


def _tap(netdev: str, name: str) -> str:
    return f"tap,id={netdev},ifname={name},script=no,downscript=no"
