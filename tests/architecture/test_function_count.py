"""One create runs through few functions of the service: the way that `docs/architecture.md` describes stays short."""

from tests.kit.function_count import create_and_verify, report

MOST_FUNCTIONS, MOST_ENTRIES = 50, 110


async def test_one_create_stays_short() -> None:
    created, _ = await create_and_verify()
    assert len(created) <= MOST_FUNCTIONS, report("create", created)
    assert created.total() <= MOST_ENTRIES, report("create", created)
