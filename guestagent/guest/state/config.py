"""``/etc/guestagent/guestagent.toml`` and its drop-ins, as a Policy.

With no file everything has its default. Drop-ins of ``guestagent.toml.d`` are
taken in the order of their names; a key in a later file replaces the earlier
one, table by table. An unknown key or a wrong value is an error that names the
file and the key: the agent then does nothing rather than something that was not
meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from guestagent.errors import ConfigurationError, shown
from guestagent.guest.core.policy import BondOptions, HealthOptions, PairPolicy, Policy

CONFIGURATION = Path("/etc/guestagent/guestagent.toml")
EXAMPLE = """\
# /etc/guestagent/guestagent.toml: every key with its default
bond-name = "bond%d"      # name of new bonds; %d is the smallest free number
exclude = []              # NICs that are never bonded, by MAC, PCI address or driver:
                          # ["52:54:00:12:34:56", "0000:07:00.0", "sfc"]
control-group = ""        # group that may use the control socket beside root

[bond]                    # bond = "always" is short for a table with nics alone
nics = "pairs"            # those that have or had a VF; "always" is every virtio-net NIC;
                          # or a list as in exclude: these, and no others
miimon-ms = 100           # how often the kernel looks at the carrier of the ports
fail-over-mac = "none"    # or "active", for a VF whose driver lets nobody write its MAC
announcements = 3         # how often each address is announced after the path has moved
announcement-spacing-ms = 100

# [pair."52:54:00:12:34:56"]    the same for one pair, and what its bond is called
# bond-name = "lan0"
# miimon-ms = 50

[health]
gateway = false           # ask the default gateway through the active port
interval-s = 5
hold-down-s = 30          # a VF without a path is avoided so long, doubling up to an hour
"""
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_NIC = re.compile(
    rf"{_MAC.pattern}|[0-9a-f]{{4,}}:[0-9a-f]{{2}}:[0-9a-f]{{2}}\.[0-7]|[a-z][a-z0-9_-]*"
)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_FAIL_OVER_MAC = {"none": 0, "active": 1}
_Table = dict[str, Any]
_Check = Callable[[Any], bool]
_Rule = tuple[str, _Check]


def load(path: Path = CONFIGURATION) -> Policy:
    """Return the policy of a file and its drop-ins. Raises ConfigurationError."""
    if path != CONFIGURATION and not path.exists():
        raise ConfigurationError(f"{path} does not exist", hint="check the path after --config")
    merged: _Table = {}
    drop_ins = sorted(path.with_name(f"{path.name}.d").glob("*.toml"))
    for file in (item for item in (path, *drop_ins) if item.exists()):
        values = _spelled_out(_read(file))
        _check(file, values)
        merged = _merged(merged, values)
    options = _options(merged.get("bond", {}), BondOptions())
    nics = merged.get("bond", {}).get("nics", "pairs")
    return Policy(
        bond_name=merged.get("bond-name", Policy().bond_name),
        only=None if isinstance(nics, str) else _names(nics),
        unseen=nics != "pairs",
        excluded=_names(merged.get("exclude", ())),
        pairs=tuple(
            PairPolicy(mac=mac, bond_name=table.get("bond-name"), options=_options(table, options))
            for mac, table in sorted(merged.get("pair", {}).items())
        ),
        control_group=merged.get("control-group") or None,
        options=options,
        health=_health(merged.get("health", {}), HealthOptions()),
    )


def _options(table: Mapping[str, Any], default: BondOptions) -> BondOptions:
    mode = table.get("fail-over-mac")
    return BondOptions(
        miimon_ms=table.get("miimon-ms", default.miimon_ms),
        fail_over_mac=default.fail_over_mac if mode is None else _FAIL_OVER_MAC[mode],
        announcements=table.get("announcements", default.announcements),
        announcement_spacing_ms=table.get(
            "announcement-spacing-ms", default.announcement_spacing_ms
        ),
    )


def _health(table: Mapping[str, Any], default: HealthOptions) -> HealthOptions:
    return HealthOptions(
        gateway=table.get("gateway", default.gateway),
        interval_s=table.get("interval-s", default.interval_s),
        hold_down_s=table.get("hold-down-s", default.hold_down_s),
    )


def _names(items: list[str] | tuple[str, ...]) -> frozenset[str]:
    return frozenset(item.lower() for item in items)


def _read(file: Path) -> _Table:
    import tomllib

    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read {file}: {error}", hint="make it a readable UTF-8 TOML file"
        ) from error
    # ValueError: no TOML, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{file}: {error}", hint="correct the file; `guestagent plan` then shows its effect"
        ) from error


def _spelled_out(values: _Table) -> _Table:
    """Write out ``bond = "always"``, and spell the MACs of pairs in one way."""
    spelled = dict(values)
    if isinstance(spelled.get("bond"), str | list):
        spelled["bond"] = {"nics": spelled["bond"]}
    if isinstance(spelled.get("pair"), dict):
        spelled["pair"] = {mac.lower(): table for mac, table in spelled["pair"].items()}
    return spelled


def _merged(earlier: _Table, later: _Table) -> _Table:
    """Return two configurations as one, table by table at every depth."""
    merged = {**earlier, **later}
    for name in earlier.keys() & later.keys():
        if isinstance(earlier[name], dict) and isinstance(later[name], dict):
            merged[name] = _merged(earlier[name], later[name])
    return merged


def _check(file: Path, values: _Table) -> None:
    for key, value in values.items():
        _check_key(file, key, value, _KEYS.get(key))
        for name, item in value.items() if key in _TABLES else ():
            _check_key(file, f"{key}.{name}", item, _TABLES[key].get(name))
        for mac, table in value.items() if key == "pair" else ():
            _check_key(file, f'pair."{mac}"', (mac, table), _PAIR)
            for name, item in table.items():
                _check_key(file, f'pair."{mac}".{name}', item, _PAIR_KEYS.get(name))


def _check_key(file: Path, key: str, value: object, rule: _Rule | None) -> None:
    if rule is None:
        nested = (f"{table}.{name}" for table, keys in _TABLES.items() for name in keys)
        of_pair = (f'pair."MAC".{name}' for name in _PAIR_KEYS)
        known = ", ".join([*(key for key in _KEYS if key != "pair"), *nested, *of_pair])
        raise ConfigurationError(f"{file}: unknown key {key}", hint=f"known keys: {known}")
    expected, holds = rule
    if not holds(value):
        raise ConfigurationError(
            f"{file}: {key} = {shown(value)} is not valid", hint=f"{key} must be {expected}"
        )


def _integer(low: int, high: int) -> _Rule:
    def holds(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return f"a whole number from {low} to {high}", holds


def _is_bond_pattern(value: object) -> bool:
    if not isinstance(value, str) or value.count("%d") != 1 or value.count("%") != 1:
        return False
    # The number takes four characters at most of the fifteen that a name may have.
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,11}", value.replace("%d", "0")) is not None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None and value.strip(".") != ""


def _is_nic_list(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) and _NIC.fullmatch(item.lower()) for item in value
    )


def _is_pair(value: tuple[str, object]) -> bool:
    mac, table = value
    return _MAC.fullmatch(mac) is not None and isinstance(table, dict)


_NICS = "a list of NICs, each by MAC (aa:bb:cc:dd:ee:ff), PCI address (0000:07:00.0) or driver"
_TABLE: _Rule = ("a table", lambda value: isinstance(value, dict))
_KEYS: dict[str, _Rule] = {
    "bond-name": ('a short interface name with one %d, such as "bond%d"', _is_bond_pattern),
    "exclude": (_NICS, _is_nic_list),
    "control-group": ("the name of a group", lambda value: isinstance(value, str)),
    "bond": (f'a table, "pairs", "always", or {_NICS}', _TABLE[1]),
    "pair": _TABLE,
    "health": _TABLE,
}
_OPTION_KEYS: dict[str, _Rule] = {
    "miimon-ms": _integer(10, 10_000),
    "fail-over-mac": ('"active" or "none"', lambda value: value in ("none", "active")),
    "announcements": _integer(0, 255),
    "announcement-spacing-ms": _integer(10, 10_000),
}
_BOND_KEYS: dict[str, _Rule] = {
    "nics": (
        f'"pairs", "always", or {_NICS}',
        lambda value: value in ("pairs", "always") or _is_nic_list(value),
    ),
    **_OPTION_KEYS,
}
_PAIR: _Rule = ('a table, such as [pair."52:54:00:12:34:56"]', _is_pair)
_PAIR_KEYS: dict[str, _Rule] = {
    "bond-name": ("an interface name of at most 15 characters", _is_name),
    **_OPTION_KEYS,
}
_HEALTH_KEYS: dict[str, _Rule] = {
    "gateway": ("true or false", lambda value: isinstance(value, bool)),
    "interval-s": _integer(1, 3600),
    "hold-down-s": _integer(1, 3600),
}
_TABLES = {"bond": _BOND_KEYS, "health": _HEALTH_KEYS}
