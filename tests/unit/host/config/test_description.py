"""A VM description is read strictly, and what is wrong is named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestagent.errors import EXIT_USAGE, ConfigurationError
from guestagent.host.config.description import EXAMPLE, load
from guestagent.host.model import Device, End, MigrationSettings, Timeouts

LEAST = """
[source]
qmp = "/a.sock"
[[pair]]
mac = "52:54:00:AA:00:01"
standby = "net0"
vf = { driver = "vfio-pci", id = "vf0", bus = "rp2", host = "0000:3b:02.1" }
"""


def read(directory: Path, text: str) -> object:
    path = directory / "web1.toml"
    path.write_text(text)
    return load(path)


def complaint(directory: Path, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read(directory, text)
    assert str(directory / "web1.toml") in str(caught.value)
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value


def test_the_example_is_a_description(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(EXAMPLE)
    vm = load(path)
    assert vm.name == "web1"
    assert vm.destination is not None
    assert vm.destination.listen == vm.destination.uri == "unix:/run/vm/web1.migrate"
    assert vm.migration == MigrationSettings(
        downtime_limit_ms=300, bandwidth_limit_mib_per_s=1024, timeout_s=1800
    )
    assert vm.timeouts == Timeouts(), "the example must show the defaults"
    assert vm.vfs_on(End.SOURCE) == (
        Device(driver="vfio-pci", id="vf0", bus="rp2", properties=(("host", "0000:3b:02.1"),)),
    )
    assert vm.vfs_on(End.DESTINATION) == (
        Device(driver="vfio-pci", id="vf0", bus="rp2", properties=(("host", "0000:af:10.3"),)),
    )


def test_the_least_description_has_defaults(tmp_path: Path) -> None:
    path = tmp_path / "web1.toml"
    path.write_text(LEAST)
    vm = load(path)
    assert vm.name == "web1"
    assert vm.destination is None
    assert (vm.migration, vm.timeouts) == (MigrationSettings(), Timeouts())
    (pair,) = vm.pairs
    assert pair.mac == "52:54:00:aa:00:01"
    assert pair.destination_vf == pair.vf


def test_a_vm_is_not_called_as_the_directory_of_the_leases(tmp_path: Path) -> None:
    """They would have one lock, and a command on that VM kept all others from their VFs."""
    assert "must not be 'vfs'" in str(complaint(tmp_path, f'name = "vfs"\n{LEAST}'))


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("downtime_limit_ms", 2_000_000),
        ("multifd_channels", 255),
        ("bandwidth_limit_mib_per_s", 2**43 - 1),
    ],
)
def test_what_qemu_would_refuse_only_when_it_migrates_is_refused_here(
    tmp_path: Path, key: str, most: int
) -> None:
    read(tmp_path, f"{LEAST}[migration]\n{key} = {most}")
    assert f"{key} is {most + 1}, must be a whole number of at least 1 and at most {most}" in str(
        complaint(tmp_path, f"{LEAST}[migration]\n{key} = {most + 1}")
    )


@pytest.mark.parametrize(
    ("other", "device"),
    [
        ("false", None),
        (
            '{ bus = "rp9" }',
            Device(driver="vfio-pci", id="vf0", bus="rp9", properties=(("host", "0000:3b:02.1"),)),
        ),
        (
            '{ driver = "igbvf", netdev = "n" }',
            Device(driver="igbvf", id="vf0", bus="rp2", properties=(("netdev", "n"),)),
        ),
    ],
)
def test_the_destination_may_have_another_vf_or_none(
    tmp_path: Path, other: str, device: Device | None
) -> None:
    path = tmp_path / "web1.toml"
    path.write_text(f"{LEAST}destination_vf = {other}\n")
    assert load(path).pairs[0].destination_vf == device


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("[source]", "[sources]", "source is missing"),
        ('qmp = "/a.sock"', 'qmpp = "/a.sock"', "source.qmp is missing"),
        ('qmp = "/a.sock"', 'qmp = "/a.sock"\nqag = "/b"', "unknown key source.qag"),
        ('qmp = "/a.sock"', 'qmp = "a.sock"', "source.qmp is 'a.sock', must be an absolute path"),
        ('qmp = "/a.sock"', "qmp = 7", "source.qmp is 7, must be a text"),
        ("[[pair]]", "[pair]", "pair must be written as [[pair]]"),
        ("52:54:00:AA:00:01", "52:54:00:AA:00", "pair[0].mac is '52:54:00:aa:00'"),
        ('standby = "net0"', "", "pair[0].standby is missing"),
        ('standby = "net0"', 'standby = "net0"\nvff = 1', "unknown key pair[0].vff"),
        ('driver = "vfio-pci", ', "", "pair[0].vf.driver is missing"),
        ('host = "0000:3b:02.1"', "host = [1]", "pair[0].vf.host is [1]"),
        (
            'host = "0000:3b:02.1"',
            'mac = "52:54:00:aa:00:02"',
            "pair[0].vf.mac is '52:54:00:aa:00:02'",
        ),
        ("\n[source]", "\ntimeout = 1\n[source]", "unknown key timeout"),
        ("\n[source]", '\nname = "../x"\n[source]', "name is '../x'"),
        ("[source]", "[source", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, fragment: str) -> None:
    assert old in LEAST
    assert fragment in str(complaint(tmp_path, LEAST.replace(old, new)))


@pytest.mark.parametrize(
    ("addition", "fragment"),
    [
        ("destination_vf = true", "pair[0].destination_vf must be a table, or false"),
        ("destination_vf = { bsu = 'x', bus = 1 }", "pair[0].destination_vf.bus is 1"),
        ('[destination]\nqmp = "/b"', "destination.uri is missing"),
        ('[destination]\nqmp = "/b"\nuri = "ssh:x"', "destination.uri is 'ssh:x'"),
        ("[migration]\ndowntime_limit_ms = 0.5", "migration.downtime_limit_ms is 0.5"),
        ("[migration]\ntimeout_s = -1", "migration.timeout_s is -1"),
        ("[migration]\nmultifd = true", "unknown key migration.multifd"),
        ("[timeouts]\nunplug_s = 2", "timeouts.unplug_s is 2, must be a number of at least 5"),
        ("[timeouts]\nattach_tries = true", "timeouts.attach_tries is True"),
        (f"[timeouts]\ncommand_s = 0x{'f' * 5000}", "command_s is a number of thousands"),
        (
            f"destination_vf = {{ driver = 'x', id = 'y', bus = 'z', n = 0x{'f' * 17} }}",
            "pair[0].destination_vf.n is a number of more than 64 bits",
        ),
        ("[timeouts]\ncommand_s = nan", "timeouts.command_s is nan"),
        ("[timeouts]\ncommand_s = inf", "timeouts.command_s is inf"),
    ],
)
def test_what_is_wrong_further_down_is_named(tmp_path: Path, addition: str, fragment: str) -> None:
    assert fragment in str(complaint(tmp_path, f"{LEAST}{addition}\n"))


def test_one_id_for_two_devices_is_refused(tmp_path: Path) -> None:
    second = LEAST[LEAST.index("[[pair]]") :].replace("AA:00:01", "AA:00:02")
    assert "uses id 'net0' twice" in str(complaint(tmp_path, LEAST + second))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "none.toml")


LINES = tuple(EXAMPLE.splitlines())
VALUES = st.one_of(
    st.integers(min_value=-(2**63), max_value=2**63 - 1).map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            '""',
            '"x"',
            '"é\\u0000"',
            "true",
            "[]",
            '[1, "x"]',
            "{}",
            "1979-05-27",
            "9" * 400,
            "9" * 5000,
            "0x" + "f" * 5000,
            f"[0x{'f' * 5000}]",
            "[" * 2000,
        ]
    ),
    st.sampled_from(
        ['{ driver = "x", id = "y", bus = "z" }', "{ host = 3 }", "false", '"ssh://-x"']
    ),
)
CHANGES = st.one_of(
    VALUES.map(lambda value: lambda line: f"{line.partition('=')[0].strip('# ')} = {value}"),
    st.text(max_size=40).map(lambda text: lambda _: text),
    st.just(lambda line: line.lstrip("# ")),
    st.just(lambda line: f"{line}\n{line}"),
)


@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), CHANGES), min_size=1, max_size=4))
def test_any_description_is_read_or_what_is_wrong_with_it_is_named(
    changes: list[tuple[int, Callable[[str], str]]],
) -> None:
    lines = list(LINES)
    for number, change in changes:
        lines[number] = change(lines[number])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "web1.toml"
        path.write_bytes("\n".join(lines).encode(errors="surrogatepass"))
        problem: str | None = None
        try:
            assert load(path).pairs
        except ConfigurationError as error:
            problem = str(error)
        assert problem is None or str(path) in problem
