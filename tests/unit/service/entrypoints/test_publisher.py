"""What the publishing channels rely on in the library."""

from aiormq.channel import Channel


def test_what_tells_the_end_of_a_channel_is_what_the_library_sets() -> None:
    """It is private there: a release that renames it must not pass unnoticed."""
    assert "_Channel__close_event" in Channel.__init__.__code__.co_names
    assert "_Channel__close_event" in Channel._on_close_frame.__code__.co_names
