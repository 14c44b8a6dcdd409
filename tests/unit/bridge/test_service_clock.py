"""T6: the bridge writes times as the service's clock shows them, and compares two clocks nowhere."""

from datetime import UTC, datetime

import pytest

from bridge.service_clock import ServiceClock


class Clocks:
    """The service's clock is `skew` seconds ahead of the bridge's; both go on together."""

    def __init__(self, skew: float) -> None:
        self.seconds = 1_800_000_000.25
        self.skew = skew
        self.service_clock = ServiceClock(monotonic=lambda: self.seconds - 1_799_000_000, wall=lambda: self.seconds)

    def reply(self, *, after: float, transit: float = 0.001) -> None:
        """The service dates its reply in whole seconds, just before it arrives."""
        self.seconds += after
        dated = datetime.fromtimestamp(int(self.seconds + self.skew), UTC)
        self.seconds += transit
        self.service_clock.note(dated, waited_seconds=after + transit)


@pytest.mark.parametrize("skew", [0.0, 0.4, 15.0, -15.0, 360.0, -360.0, 3600.0, -3600.0])
def test_the_first_reply_tells_the_services_clock_and_the_next_ones_make_it_exact(skew: float) -> None:
    clocks = Clocks(skew)
    assert clocks.service_clock.now() == (clocks.seconds, False)
    assert clocks.service_clock.skew_seconds is None
    clocks.reply(after=8.0)
    measured, is_known = clocks.service_clock.now()
    assert is_known
    assert abs(measured - clocks.seconds - skew) <= 1.01
    for _ in range(50):
        clocks.reply(after=0.03)
    assert abs(clocks.service_clock.now()[0] - clocks.seconds - skew) < 0.1
    assert abs((clocks.service_clock.skew_seconds or 0) - skew) < 0.1


def test_a_skew_is_logged_when_it_comes_and_when_it_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clocks = Clocks(15)
    for skew in (15, 15, 0, 0, -400):
        clocks.skew = skew
        clocks.reply(after=0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "The service's clock is +15 s off this machine's: set the one that is wrong",
        "The service's clock agrees with this machine's again.",
        "The service's clock is -400 s off this machine's: set the one that is wrong",
    ]


def test_what_was_measured_is_forgotten_when_nothing_is_answered_and_an_undated_reply_tells_nothing() -> None:
    clocks = Clocks(15)
    clocks.service_clock.note(None, waited_seconds=1)
    assert not clocks.service_clock.now()[1]
    clocks.reply(after=0.1)
    clocks.service_clock.forget()
    assert not clocks.service_clock.now()[1]
