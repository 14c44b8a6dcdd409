"""Log lines: one JSON object each, whatever is in it; what is being worked on is named in every one of them."""

import asyncio
import json
import logging
from logging.config import DictConfigurator
from typing import Any

import pytest

from runtime import logs

NASTY = 'two\nlines\r\n"quoted"\u2028\x00\x1b[31m\ud800'


def formatted(kind: logs.LogFormat, message: str, *arguments: Any, exc_info: Any = None, **extra: Any) -> str:
    """A line as `log_config` has it written."""
    configurator: Any = DictConfigurator(logs.log_config("info", kind))
    formatter = configurator.configure_formatter(configurator.config["formatters"][kind])
    context = configurator.configure_filter(configurator.config["filters"]["context"])
    logger = logging.getLogger("service.test")
    record = logger.makeRecord(logger.name, logging.INFO, "test.py", 1, message, arguments, exc_info, extra=extra)
    assert context.filter(record)
    line: str = formatter.format(record)
    return line


def line(message: str = "said", **extra: Any) -> Any:
    return json.loads(formatted("json", message, **extra))


def test_a_line_says_when_how_bad_who_and_what_in_camel_case_and_leaves_out_what_is_not_known() -> None:
    said = line(request_id="r-1", duration_ms=1.5, payment_id=7, code=None)
    assert said.pop("time").endswith("+00:00")
    expected = {"level": "INFO", "logger": "service.test", "message": "said"}
    assert list(said.items()) == list((expected | {"requestId": "r-1", "durationMs": 1.5, "paymentId": 7}).items())


def test_what_is_worked_on_is_in_every_line_inside_and_in_none_outside() -> None:
    with logs.context(request_id="r-1", trace_id="t"):
        logs.bind(payment_id=7, booking_id=None)
        assert line()["requestId"] == "r-1"
        with logs.context(event_id="e"):
            assert {"requestId", "traceId", "paymentId", "eventId"} <= set(line())
        assert "eventId" not in line()
        assert "bookingId" not in line()
        assert line(request_id="of the call site")["requestId"] == "of the call site"
    assert "requestId" not in line()
    logs.bind(payment_id=7)
    assert "paymentId" not in line()


async def test_tasks_that_work_at_once_do_not_see_each_others_fields() -> None:
    async def work(number: int) -> list[Any]:
        with logs.context(request_id=f"r-{number}"):
            await asyncio.sleep(0)
            logs.bind(payment_id=number)
            await asyncio.sleep(0)
            begun = asyncio.create_task(asyncio.sleep(0, line()))
            return [line(), await begun]

    for number, lines in enumerate(await asyncio.gather(*(work(number) for number in range(20)))):
        assert [(said["requestId"], said["paymentId"]) for said in lines] == [(f"r-{number}", number)] * 2


@pytest.mark.parametrize("value", [NASTY, {"deep": [NASTY]}, NASTY.encode("utf-8", "replace"), ValueError(NASTY)])
def test_a_line_break_in_any_value_breaks_no_line(value: Any) -> None:
    error = RuntimeError(NASTY)
    failure = (RuntimeError, error, None)
    with logs.context(request_id=value):
        text = formatted("json", "%s", value, exc_info=failure, payment_id=value)
    assert len(text.splitlines()) == 1
    said = json.loads(text)
    assert "RuntimeError" in said["exception"]
    assert {"requestId", "paymentId"} <= set(said)


def test_a_terminal_shows_the_beginning_of_the_requests_id() -> None:
    with logs.context(request_id="generated-0f7ba9ac-9f0c-4d0e-8f6a-0c4f"):
        assert formatted("console", "said").endswith("INFO    service.test: said  [generated-0f7ba9ac]")
    assert formatted("console", "said").endswith("INFO    service.test: said")
