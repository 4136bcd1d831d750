"""Statements that the packaging makes twice agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import guestagent
from guestagent.guest.core.link import OWNED_ALIAS, PENDING_GROUP
from tests.lint.tree import ROOT

DEBIAN = ROOT / "packaging" / "debian"


def test_the_versions_agree() -> None:
    changelog = (DEBIAN / "changelog").read_text()
    newest = re.match(r"guestagent \((.+?)\)", changelog)
    assert newest is not None
    assert newest[1] == guestagent.__version__


def test_the_rpm_has_the_same_version_and_leaves_no_file_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("guestagent", "packaging", "udev"):
        shutil.copytree(ROOT / name, tree / name)
    shutil.copy(ROOT / "LICENSE", tree)
    (tree / "vendor" / "qemu" / "qmp").mkdir(parents=True)
    (tree / "vendor" / "qemu" / "qmp" / "__init__.py").touch()
    # rpmbuild fails for an installed file that no package lists, and for a listed one not there.
    done = subprocess.run(
        [
            *("rpmbuild", "-bb", "--build-in-place", "--nodeps", "--quiet"),
            *(f"--define=_topdir {tmp_path}", "--define=__spec_install_post true"),
            "packaging/rpm/guestagent.spec",
        ],
        check=False,
        cwd=tree,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    built = sorted(path.name for path in (tmp_path / "RPMS").glob("*/*.rpm"))
    version = guestagent.__version__
    assert built == [
        f"{name}-{version}-1.noarch.rpm" for name in ("guestagent", "guestagent-host")
    ]


def test_operators_are_told_what_is_in_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in {"Unreleased", guestagent.__version__}


def test_the_host_package_carries_the_library_that_was_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = project["optional-dependencies"]["host"]
    vendored = (ROOT / "packaging" / "vendor.txt").read_text()
    (library,) = re.findall(r"^(qemu\.qmp==\S+) --hash=", vendored, re.MULTILINE)
    assert library in pinned


def test_the_packages_need_the_versions_that_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    control = (DEBIAN / "control").read_text()
    spec = (ROOT / "packaging" / "rpm" / "guestagent.spec").read_text()
    needed = project["optional-dependencies"]["host"]
    oldest = [item.split(">=")[1] for item in needed if "pyroute2" in item]
    assert re.findall(r"python3-pyroute2 \(>= (.+?)\)", control) == oldest
    assert re.findall(r"^Requires: +python3-pyroute2 >= (.+)$", spec, re.MULTILINE) == oldest
    oldest_python = project["requires-python"].removeprefix(">=")
    assert set(re.findall(r" python3 \(>= (.+?)\)", control)) == {oldest_python}


def test_every_file_meant_for_a_package_is_in_one() -> None:
    installed = " ".join(path.read_text() for path in DEBIAN.glob("*.install"))
    rooms = [
        ROOT / "udev",
        *(
            ROOT / "packaging" / name
            for name in ("bin", "cloud-init", "dracut", "ifupdown", "networkd", "systemd")
        ),
    ]
    for room in rooms:
        for path in room.iterdir():
            assert str(path.relative_to(ROOT)) in installed


def test_the_udev_rule_knows_the_agents_bonds_by_the_marks_that_the_agent_sets() -> None:
    rules = (ROOT / "udev" / "70-guestagent.rules").read_text()
    assert f'ATTR{{netdev_group}}=="{PENDING_GROUP}"' in rules
    assert f'ATTR{{ifalias}}=="{OWNED_ALIAS}*"' in rules


def test_both_kinds_of_initramfs_get_the_rules_and_what_they_call() -> None:
    # dracut(8), dracut-functions.sh: what the module asks for, said instead of done.
    said = (
        "inst_rules() { printf '/usr/lib/udev/rules.d/%s\\n' \"$@\"; }; "
        'inst_multiple() { [ "$1" != -o ] || shift; printf \'%s\\n\' "$@"; }; '
        '. "$0" && check && install'
    )
    module = ROOT / "packaging" / "dracut" / "module-setup.sh"
    done = subprocess.run(
        ["bash", "-euc", said, str(module)], check=True, capture_output=True, text=True
    )
    of_dracut = done.stdout.split()
    hook = (DEBIAN / "guestagent.initramfs-hook").read_text()
    of_initramfs_tools = re.findall(r"^copy_\w+ .*?(/\S+)$", hook, re.MULTILINE)
    assert len(of_initramfs_tools) == 3
    assert set(of_initramfs_tools) <= set(of_dracut)
    lines = (DEBIAN / "guestagent.install").read_text().splitlines()
    packaged = {
        f"/{target}/{Path(source).name}" for source, target in (line.split() for line in lines)
    }
    assert set(of_dracut) <= packaged
