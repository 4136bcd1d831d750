"""Files that a machine brings along: in its root file system before its init starts.

They are a second archive behind the initramfs (K: Documentation/driver-api/early-userspace/
buffer-format.rst), from where a script of the image copies them
(``lab/rootfs/etc/initramfs-tools/scripts/init-bottom/lab-seed``). So one image serves every
addressing scheme and every network manager, and nothing has to be written into a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

Files = Mapping[str, str]
"""Content by path from the root, without a leading slash; files under ``bin`` or ``sbin`` are
executable, NetworkManager's profiles are root's alone (it ignores others)."""


def write_initrd(target: Path, *, image_initrd: Path, files: Files) -> None:
    """Write an initramfs with the content of ``image_initrd`` and ``files``."""
    initrd = image_initrd.read_bytes()
    target.write_bytes(initrd + bytes(-len(initrd) % 512) + archive(files))


def archive(files: Files) -> bytes:
    """Return a cpio archive (newc) with ``files`` below ``seed/``."""
    directories: set[PurePosixPath] = set()
    members = b""
    for name, content in sorted(files.items()):
        path = PurePosixPath("seed") / name
        for parent in reversed(path.parents[:-1]):
            if parent not in directories:
                directories.add(parent)
                members += _member(str(parent), mode=0o40755, content=b"")
        members += _member(str(path), mode=_mode(path), content=content.encode())
    return members + _member("TRAILER!!!", mode=0, content=b"")


def _mode(path: PurePosixPath) -> int:
    if {"bin", "sbin"} & set(path.parts):
        return 0o100755
    return 0o100600 if path.suffix == ".nmconnection" else 0o100644


def _member(name: str, *, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    ino = uid = gid = mtime = major = minor = check = 0
    numbers = (
        *(ino, mode, uid, gid, 1, mtime, len(content)),
        *(major, minor, major, minor, len(encoded), check),
    )
    header = b"070701" + b"".join(f"{number:08x}".encode() for number in numbers)
    return _padded(header + encoded) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
