"""Times as operators write them."""

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from service.cli.argument_types import moment_or_age, resolved

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=UTC)),
        ("2026-11-30T01:30+01:30", datetime(2026, 11, 30, tzinfo=UTC)),
        ("999999d", datetime.min.replace(tzinfo=UTC)),
        ("0001-01-01", datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_a_time_or_an_age_is_a_moment_however_long_ago(text: str, moment: datetime) -> None:
    assert resolved(moment_or_age(text), NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "-1h", "1000000d", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        moment_or_age(text)
