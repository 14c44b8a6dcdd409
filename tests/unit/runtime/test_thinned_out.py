import logging

import pytest

from runtime.aio import REPEAT_SECONDS, ThinnedOut


def test_a_repeated_warning_is_counted_and_shown_again_after_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("runtime.aio.time.monotonic", lambda: now[0])
    warnings = ThinnedOut(logging.getLogger("test"))
    for _ in range(5):
        warnings.warn("lost")
    warnings.warn("other")
    now[0] = REPEAT_SECONDS
    warnings.warn("lost")
    warnings.warn("lost")
    assert [record.getMessage() for record in caplog.records] == ["lost", "other", "lost (4 times more since then)"]


def test_however_many_different_warnings_there_are_few_are_kept() -> None:
    warnings = ThinnedOut(logging.getLogger("test"))
    for number in range(1000):
        warnings.warn(str(number))
    assert len(warnings._last) <= 101
