"""The configuration file: defaults, drop-ins, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.errors import ConfigurationError
from guestagent.guest.core.policy import BondOptions, PairPolicy, Policy
from guestagent.guest.state.config import CONFIGURATION, EXAMPLE, load

NAMED = frozenset({"52:54:00:aa:00:01", "0000:07:00.0", "mlx5_core"})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "guestagent.toml"
    path.write_text(text)
    return path


def test_without_a_file_everything_has_its_default() -> None:
    assert not CONFIGURATION.exists()
    assert load() == Policy()


def test_the_example_is_valid_and_says_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, EXAMPLE)) == Policy()


def test_drop_ins_replace_key_by_key_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = written(tmp_path, "[bond]\nmiimon-ms = 50\nannouncements = 1\n")
    drop_ins = tmp_path / "guestagent.toml.d"
    drop_ins.mkdir()
    (drop_ins / "20.toml").write_text("[bond]\nannouncements = 9\n")
    (drop_ins / "10.toml").write_text('exclude = ["52:54:00:AA:00:01"]\n[bond]\nannouncements=5\n')
    policy = load(path)
    assert policy.options == BondOptions(miimon_ms=50, announcements=9)
    assert policy.excluded == {"52:54:00:aa:00:01"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("bond-nmae = 'x%d'", "bond-nmae"),
        ("[bond]\nmiimon = 5", "bond.miimon"),
        ("[bond]\nmiimon-ms = 'soon'", "bond.miimon-ms"),
        ("[bond]\nmiimon-ms = true", "bond.miimon-ms"),
        ("[bond]\nmiimon-ms = 0", "bond.miimon-ms"),
        ("bond = 3", "bond"),
        ("bond-name = 'a name with spaces %d'", "bond-name"),
        ("bond-name = 'bond'", "bond-name"),
        ("exclude = ['52:54']", "exclude"),
        ("exclude = ['0000:07:00']", "exclude"),
        ("bond = 'sometimes'", "bond.nics"),
        ("bond = ['52:54']", "bond.nics"),
        ("[bond]\nnics = 'all'", "bond.nics"),
        ("[pair.lan]\nmiimon-ms = 50", 'pair."lan"'),
        ("pair = 1", "pair"),
        ("[pair.'52:54:00:aa:00:01']\nmiimon = 50", 'pair."52:54:00:aa:00:01".miimon'),
        ("[pair.'52:54:00:aa:00:01']\nbond-name = 'a b'", "bond-name"),
        ("[pair.'52:54:00:aa:00:01']\nnics = 'pairs'", "nics"),
        ("[bond]\nfail-over-mac = 'follow'", "bond.fail-over-mac"),
        ("not toml", "line 1"),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path: Path, text: str, names: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert names in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "only", "unseen"),
    [
        ('bond = "pairs"', None, False),
        ('bond = "always"', None, True),
        ('[bond]\nnics = "always"', None, True),
        ('bond = ["52:54:00:AA:00:01", "0000:07:00.0", "mlx5_core"]', NAMED, True),
        ("bond = []", frozenset(), True),
    ],
)
def test_the_nics_to_bond_have_a_short_form(
    tmp_path: Path, text: str, only: frozenset[str] | None, unseen: bool
) -> None:
    policy = load(written(tmp_path, text))
    assert (policy.only, policy.unseen) == (only, unseen)


def test_the_options_of_one_pair_override_those_of_all_pairs(tmp_path: Path) -> None:
    path = written(
        tmp_path, "[bond]\nmiimon-ms = 50\n[pair.'52:54:00:AA:00:01']\nannouncements = 9\n"
    )
    drop_ins = tmp_path / "guestagent.toml.d"
    drop_ins.mkdir()
    (drop_ins / "10.toml").write_text("[pair.'52:54:00:aa:00:01']\nbond-name = 'lan0'\n")
    (drop_ins / "20.toml").write_text('bond = "always"\n')
    policy = load(path)
    assert policy.unseen
    assert policy.of_pair("52:54:00:aa:00:01") == PairPolicy(
        mac="52:54:00:aa:00:01",
        bond_name="lan0",
        options=BondOptions(miimon_ms=50, announcements=9),
    )
    assert policy.of_pair("52:54:00:aa:00:02").options == BondOptions(miimon_ms=50)


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("bond = 3", 'bond is 3, must be a table, "pairs", "always", or a list'),
        ("[bond]\nmiimon-ms = 9", "miimon-ms is 9, must be a whole number of at least 10 and"),
        ("[bond]\nfail-over-mac = ''", 'fail-over-mac is \'\', must be "active" or "none"'),
        ("[health]\ninterval-s = 1.5", "interval-s is 1.5, must be a whole number of at least 1"),
        ("x = 1", "unknown key x"),
    ],
)
def test_an_error_names_the_value_and_what_is_valid(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, text))
    assert problem in str(caught.value)


def test_an_unknown_key_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(written(tmp_path, "[bond]\nmiimon = 5"))
    hint = str(caught.value.hint)
    for key in ("nics", "miimon-ms", "fail-over-mac", "announcements", "announcement-spacing-ms"):
        assert key in hint
