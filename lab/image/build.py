"""The guest images: Debian with the agent installed from its package.

::

    build/image/
        base-<hash>.tar       distribution packages only (mmdebstrap, about a minute)
        <hash>/               what a guest boots (about ten seconds)
            disk.raw          ext4 without a partition table, never written to
            vmlinuz  initrd

There are three of them: the plain one, and for Debian 12 and 13 one with all network stacks, of
which a guest uses one (lab/image/flavour.py). The base is keyed by release and list of packages;
the image by the base, by the files of ``lab/rootfs`` and ``lab/guestside``, and by the content of
the agent's package, so that a change of the agent costs the second step only. Older images are
removed when a new one is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guestagent.errors import SystemLacksError
from lab.base.paths import IMAGES, LAB, PACKAGES, ROOT
from lab.base.process import run
from lab.image.debian import ENVIRONMENT, bootstrap
from lab.image.flavour import PLAIN, Flavour, Suite

BASE_PACKAGES = (
    "dbus",
    "ethtool",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    # The generic kernel: the -cloud- one has no e1000e, igb and igbvf.
    "linux-image-amd64",
    "python3",
    "python3-pyroute2",
    "python3-pyudev",
    "python3-systemd",
    "qemu-guest-agent",
    "systemd-sysv",
    "tcpdump",
    "udev",
    "zstd",
)

# What a throw-away guest has no use for and would spend seconds of boot on.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "ldconfig.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-pstore.service",
    "systemd-rfkill.socket",
    "systemd-timesyncd.service",
    "systemd-update-done.service",
)

DISK_MIB = 2048
KEPT_IMAGES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Files that a guest boots; none of them is ever written to."""

    directory: Path

    @property
    def disk(self) -> Path:
        """The root file system, raw."""
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        """The Linux image."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initramfs, to which a machine appends its own files (lab/image/seed.py)."""
        return self.directory / "initrd"

    @property
    def key(self) -> str:
        """A hash of everything that is in it."""
        return self.directory.name


def ensure_image(
    flavour: Flavour = PLAIN, *, with_agent: bool = True, packages: tuple[str, ...] = ()
) -> Image:
    """Return the image of the current sources, made unless it is cached.

    ``packages`` are installed besides those that every guest of the flavour has. A failure
    leaves no half-made image behind.

    :raise SystemLacksError: not root, or a tool is missing or failed.
    """
    package = ensure_agent_package() if with_agent else None
    IMAGES.mkdir(parents=True, exist_ok=True)
    with _locked(IMAGES / "lock"):
        base = _ensure_base(flavour.suite, (*BASE_PACKAGES, *flavour.packages, *packages))
        key = _hash([base, *_tree(LAB / "rootfs"), *_tree(LAB / "guestside")], package)
        image = Image(directory=IMAGES / key)
        if not image.directory.exists():
            _say(f"making the guest image {key} (Debian {flavour.suite})")
            _make_image(image, base, package)
            _remove_old(image)
        return image


def ensure_agent_package() -> Path:
    """Build the Debian package of the agent unless its sources are unchanged, and return it.

    :raise SystemLacksError: the build failed.
    """
    run(sys.executable, ROOT / "packaging" / "build.py", "--debian-only")
    packages = sorted(PACKAGES.glob("guestagent_*.deb"))
    if not packages:
        raise SystemLacksError(f"no agent package in {PACKAGES}", hint="run: ./dev package")
    return packages[-1]


def _ensure_base(suite: Suite, packages: tuple[str, ...]) -> Path:
    digest = hashlib.sha256(" ".join((suite, *packages)).encode())
    base = IMAGES / f"base-{digest.hexdigest()[:12]}.tar"
    if base.exists():
        return base
    _say(f"making the base of the guest image, Debian {suite}: about a minute")
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    with tempfile.TemporaryDirectory(dir=IMAGES, prefix="tmp-") as work:
        archive = Path(work) / "base.tar"
        bootstrap(suite, packages, archive, options=excluded)
        archive.replace(base)
    return base


def _make_image(image: Image, base: Path, package: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=IMAGES, prefix="tmp-") as work:
        root = Path(work) / "root"
        made = Path(work) / "image"
        root.mkdir()
        made.mkdir()
        run("tar", "--extract", "--file", base, "--directory", root, "--numeric-owner")
        _customize(root)
        if package is not None:
            shutil.copy(package, root / "tmp" / "agent.deb")
            _chroot(root, "dpkg", "--install", "/tmp/agent.deb")
            (root / "tmp" / "agent.deb").unlink()
        _chroot(root, "update-initramfs", "-c", "-k", "all")
        for name in ("vmlinuz", "initrd"):
            (boot_file,) = (root / "boot").glob(f"{name}*-amd64")
            shutil.copy(boot_file, made / name)
        disk = made / "disk.raw"
        features = "^metadata_csum,^64bit"
        run("mkfs.ext4", "-q", "-d", root, "-O", features, disk, f"{DISK_MIB}M")
        made.rename(image.directory)


def _customize(root: Path) -> None:
    """Make a tree of packages a guest: our files, no units that only cost time."""
    shutil.copytree(LAB / "rootfs", root, symlinks=True, dirs_exist_ok=True)
    (root / "usr/lib/lab").mkdir()
    for program in (LAB / "guestside").glob("*.py"):
        shutil.copy(program, root / "usr/lib/lab")
    (root / "etc/fstab").write_text("")
    (root / "etc/hostname").write_text("guest\n")
    # A fixed one: an empty one means "first boot" to systemd, which then presets all units.
    (root / "etc/machine-id").write_text("6c61622d67756573742d696d61676531\n")
    for unit in MASKED_UNITS:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _chroot(root, "systemctl", "enable", "systemd-networkd.service")
    _chroot(root, "passwd", "--delete", "root")


def _chroot(root: Path, *argv: str) -> None:
    private = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    run(*private, f"--mount-proc={root}/proc", "chroot", root, *argv, env=ENVIRONMENT)


# Half a gigabyte that no guest of the lab loads: Debian 12 does not compress its modules.
_EXCLUDED = (
    *(f"/usr/share/{name}/*" for name in ("doc", "locale", "man")),
    *(
        f"*/lib/modules/*/kernel/{name}/*"
        for name in ("sound", "drivers/gpu", "drivers/infiniband", "drivers/media",
                     "drivers/net/wireless", "drivers/scsi", "drivers/staging")
    ),
)  # fmt: skip


def _tree(directory: Path) -> list[Path]:
    files = (path for path in directory.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(path for path in files if "__pycache__" not in path.parts)


def _hash(files: Iterable[Path], package: Path | None) -> str:
    """Return a hash over names, modes and contents (the base names its content itself)."""
    digest = hashlib.sha256(repr((MASKED_UNITS, DISK_MIB)).encode())
    digest.update(Path(__file__).read_bytes())
    for file in files:
        digest.update(f"{file.name} {file.stat().st_mode:o}\n".encode())
        if file.suffix != ".tar":
            digest.update(file.read_bytes())
    if package is not None:
        digest.update(package.read_bytes())
    return digest.hexdigest()[:12]


def _remove_old(image: Image) -> None:
    """Keep a few older images: a run that is under way may still start guests from one."""
    made = [path for path in IMAGES.iterdir() if path.is_dir() and path != image.directory]
    made.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for directory in made[KEPT_IMAGES:]:
        shutil.rmtree(directory)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"image: {text}", flush=True)
