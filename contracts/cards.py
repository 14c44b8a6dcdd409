"""Card numbers, which must never come in: not be stored, not be passed on, not be written to a log."""

import re
from typing import Final
from urllib.parse import unquote_plus

# As cards are numbered and written: 13 to 19 digits, bare or in the groups that are printed on them. The first digit is
# a bank's or a card company's (2 to 6), and no part of a longer word counts: times in milliseconds (1...),
# UUIDs and hexadecimal digests are everybody's identifiers.
_WRITTEN: Final = [
    re.compile(rf"(?<![0-9A-Za-z]){digits}(?![0-9A-Za-z])", re.ASCII)
    for digits in (
        r"[2-6][0-9]{12,18}",
        r"[2-6][0-9]{3}(?:[ -][0-9]{4}){2}[ -][0-9]{1,4}",
        r"[2-6][0-9]{3}(?:[ -][0-9]{4}){3}[ -][0-9]{1,3}",
        r"[2-6][0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5}",
    )
]
_BEGINNING: Final = re.compile(r"(?<![0-9A-Za-z])[2-6][0-9]{3}", re.ASCII)
"""What all of them begin with, and most texts do not hold."""


def holds_card_number(text: str) -> bool:
    """Whether a payment card's number stands in the text, also if it is percent-encoded.

    One in ten numbers of that length and beginning passes the check digit by chance, so this is not for integer ids.
    """
    readings = [reading for reading in {text, unquote_plus(text)} if _BEGINNING.search(reading)]
    return any(_is_luhn(found[0]) for text in readings for form in _WRITTEN for found in form.finditer(text))


def _is_luhn(written: str) -> bool:
    """ISO/IEC 7812-1, annex B: from the right, every second digit doubled, the sum is a multiple of ten."""
    digits = [int(character) for character in reversed(written) if character.isdigit()]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0
