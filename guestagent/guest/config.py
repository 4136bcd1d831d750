"""``/etc/guestagent/guestagent.toml`` and its drop-ins, as a Policy.

With no file everything has its default. Drop-ins of ``guestagent.toml.d`` are
taken in the order of their names; a key in a later file replaces the earlier
one, table by table. An unknown key or a wrong value is an error that names the
file and the key: the agent then does nothing rather than something else than
what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guestagent.errors import ConfigurationError
from guestagent.guest.model import BondOptions, HealthOptions, Policy

CONFIGURATION = Path("/etc/guestagent/guestagent.toml")
EXAMPLE = """\
# /etc/guestagent/guestagent.toml: every key with its default
bond-name = "bond%d"      # name of new bonds; %d is the smallest free number
exclude = []              # MACs that are never bonded: ["52:54:00:12:34:56"]
control-group = ""        # group that may use the control socket beside root

[bond]
miimon-ms = 100           # how often the kernel looks at the carrier of the ports
fail-over-mac = "active"  # or "none"; active never writes a VF's MAC
announcements = 3         # how often each address is announced after the path has moved
announcement-spacing-ms = 100

[health]
gateway = false           # ask the default gateway through the active port
interval-s = 5
hold-down-s = 30          # a VF without a path is avoided so long, doubling up to an hour
"""
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_FAIL_OVER_MAC = {"none": 0, "active": 1}
_Check = Callable[[Any], bool]


def load(path: Path = CONFIGURATION) -> Policy:
    """Return the policy of a file and its drop-ins. Raises ConfigurationError."""
    if path != CONFIGURATION and not path.exists():
        raise ConfigurationError(f"{path} does not exist", hint="check the path after --config")
    merged: dict[str, Any] = {}
    drop_ins = sorted(path.with_name(f"{path.name}.d").glob("*.toml"))
    for file in (item for item in (path, *drop_ins) if item.exists()):
        values = _read(file)
        _check(file, values)
        tables = {name: {**merged.get(name, {}), **values.get(name, {})} for name in _TABLES}
        merged = {**merged, **values, **tables}
    options, health = merged.get("bond", {}), merged.get("health", {})
    default, healthy = BondOptions(), HealthOptions()
    return Policy(
        bond_name=merged.get("bond-name", Policy().bond_name),
        excluded=frozenset(mac.lower() for mac in merged.get("exclude", ())),
        control_group=merged.get("control-group") or None,
        options=BondOptions(
            miimon_ms=options.get("miimon-ms", default.miimon_ms),
            fail_over_mac=_FAIL_OVER_MAC[options.get("fail-over-mac", "active")],
            announcements=options.get("announcements", default.announcements),
            announcement_spacing_ms=options.get(
                "announcement-spacing-ms", default.announcement_spacing_ms
            ),
        ),
        health=HealthOptions(
            gateway=health.get("gateway", healthy.gateway),
            interval_s=health.get("interval-s", healthy.interval_s),
            hold_down_s=health.get("hold-down-s", healthy.hold_down_s),
        ),
    )


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{file}: {error}", hint="correct the file; `guestagent plan` then shows its effect"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read {file}: {error}", hint="make it a readable UTF-8 TOML file"
        ) from error


def _check(file: Path, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key in _TABLES and isinstance(value, dict):
            for name, item in value.items():
                _check_key(file, f"{key}.{name}", item, _TABLES[key].get(name))
        else:
            _check_key(file, key, value, _KEYS.get(key))


def _check_key(file: Path, key: str, value: object, rule: tuple[str, _Check] | None) -> None:
    if rule is None:
        nested = (f"{table}.{name}" for table, keys in _TABLES.items() for name in keys)
        known = ", ".join([*_KEYS, *nested])
        raise ConfigurationError(f"{file}: unknown key {key}", hint=f"known keys: {known}")
    expected, holds = rule
    if not holds(value):
        raise ConfigurationError(
            f"{file}: {key} = {value!r} is not valid", hint=f"{key} must be {expected}"
        )


def _integer(low: int, high: int) -> tuple[str, _Check]:
    def holds(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return f"a whole number from {low} to {high}", holds


def _is_bond_name(value: object) -> bool:
    if not isinstance(value, str) or value.count("%d") != 1 or value.count("%") != 1:
        return False
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,11}", value.replace("%d", "0")) is not None


def _is_mac_list(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and _MAC.fullmatch(item.lower()) for item in value
    )


_KEYS: dict[str, tuple[str, _Check]] = {
    "bond-name": ('a short interface name with one %d, such as "bond%d"', _is_bond_name),
    "exclude": ("a list of MACs written as aa:bb:cc:dd:ee:ff", _is_mac_list),
    "control-group": ("the name of a group", lambda value: isinstance(value, str)),
    "bond": ("a table", lambda value: isinstance(value, dict)),
    "health": ("a table", lambda value: isinstance(value, dict)),
}
_BOND_KEYS: dict[str, tuple[str, _Check]] = {
    "miimon-ms": _integer(10, 10_000),
    "fail-over-mac": ('"active" or "none"', lambda value: value in _FAIL_OVER_MAC),
    "announcements": _integer(0, 255),
    "announcement-spacing-ms": _integer(10, 10_000),
}
_HEALTH_KEYS: dict[str, tuple[str, _Check]] = {
    "gateway": ("true or false", lambda value: isinstance(value, bool)),
    "interval-s": _integer(1, 3600),
    "hold-down-s": _integer(1, 3600),
}
_TABLES = {"bond": _BOND_KEYS, "health": _HEALTH_KEYS}
