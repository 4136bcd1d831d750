"""Files of the network stacks: those of the user are read, those of the agent are put in place."""

from __future__ import annotations

from pathlib import Path

from guestagent.guest.core.link import STANDBY_DRIVER
from guestagent.guest.core.snapshot import StackFile


def read_user_file(path: Path) -> str:
    """Return the text of a configuration file. Raises OSError.

    A comment may be in any encoding: networkd and ifupdown skip comments unread.
    """
    return path.read_text(encoding="utf-8", errors="replace")


def read_or_none(path: Path) -> str | None:
    """Return the text of a file, or None for one that is absent, unreadable or no UTF-8."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def make_directory(path: Path) -> None:
    """Make a directory that all users can read, whatever the process's umask. Raises OSError.

    networkd runs as a user of its own, and NetworkManager keeps files for all users there.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def stack_file(
    path: Path, content: str, *, also: str | None = None, pre_takeover: str | None = None
) -> StackFile:
    """Return a file that must be on disk; it is in place with this content or with ``also``."""
    in_place = read_or_none(path) in {content, also} - {None}
    return StackFile(
        path=str(path), content=content, in_place=in_place, pre_takeover_content=pre_takeover
    )


def standby_of(bond: str, root: Path = Path("/")) -> str | None:
    """Return the name of the virtio NIC among the ports of a bond, from sysfs."""
    for port in sorted((root / "sys/class/net").glob(f"{bond}/lower_*")):
        driver = port / "device/driver"
        if driver.exists() and driver.resolve().name == STANDBY_DRIVER:
            return port.name.removeprefix("lower_")
    return None
