"""Personal data in a text: found by form and, where there is one, by its check digits, so that a filing's numbers are none.

Card numbers by Luhn's check (ISO/IEC 7812-1), IBANs by mod 97 (ISO 13616), social security numbers by the forms the SSA
gives out, phone numbers by a country's or an area's code with the usual marks between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Literal

Kind = Literal["email", "phone", "iban", "card", "ssn"]
KINDS: tuple[Kind, ...] = ("email", "iban", "card", "ssn", "phone")
"""In the order they are looked for: what is found is taken out before the next."""
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.,$€£-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|3[47]\d{2}([ -]?)\d{6}\2\d{5}|\d{13,19})"
                   r"(?![\w,-]|\.\d)")
_SSN = re.compile(r"(?<![\w.,$-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w,-]|\.\d)")
_PHONE = re.compile(
    r"(?<![\w.,$€£+(-])(?:"
    r"\+[1-9]\d{0,2}(?:[ .()/-]{1,3}\d{1,5}){2,6}"  # +49 30 1234 5678
    r"|\+[1-9]\d{7,14}"  # +493012345678
    r"|(?:1[ .-])?\([2-9]\d\d\) ?[2-9]\d\d[.-]\d{4}"  # (651) 733-1110
    r"|(?:1[ .-])?[2-9]\d\d([.-])[2-9]\d\d\1\d{4}"  # 651-733-1110
    r")(?![\w,-]|\.\d)")


def passes_luhn(digits: str) -> bool:
    """Tell whether digits end in the check digit of Luhn's formula."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return digits[0] in "3456" and len(set(digits)) > 1 and passes_luhn(digits)


def _is_iban(text: str) -> bool:
    packed = text.replace(" ", "")
    moved = packed[4:] + packed[:4]
    return 15 <= len(packed) <= 34 and int("".join(str(int(sign, 36)) for sign in moved)) % 97 == 1


def _is_phone(text: str) -> bool:
    return 8 <= len(re.sub(r"\D", "", text)) <= 15


_FORMS: dict[Kind, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (_EMAIL, lambda text: True), "iban": (_IBAN, _is_iban), "card": (_CARD, _is_card),
    "ssn": (_SSN, lambda text: True), "phone": (_PHONE, _is_phone),
}


def mask_personal(text: str, kinds: Collection[Kind] = KINDS) -> tuple[str, tuple[Kind, ...]]:
    """Return the text with ``[email removed]`` and the like for what was found, and the kinds that were."""
    found: list[Kind] = []
    for kind in KINDS:
        if kind not in kinds:
            continue
        pattern, is_one = _FORMS[kind]

        def mask(match: re.Match[str], kind: Kind = kind, is_one: Callable[[str], bool] = is_one) -> str:
            if not is_one(match[0]):
                return match[0]
            found.append(kind)
            return f"[{kind} removed]"

        text = pattern.sub(mask, text)
    return text, tuple(dict.fromkeys(found))
