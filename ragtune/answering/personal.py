"""Personal data in a text: found by form and, where there is one, by its check digits, so that a filing's numbers are none.

Card numbers by their issuers' first digits and lengths and by Luhn's check (ISO/IEC 7812-1), amounts of money left out;
IBANs by mod 97 (ISO 13616), social security numbers by the forms the SSA gives out, phone numbers by a country's or an
area's code with the usual marks between.
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
_CARD = re.compile(
    r"(?<![\w.,$€£¥₹-])(?<!\d{4}[ -])"
    r"(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|3\d{3}([ -])\d{6}\2\d{4,5}|\d{14,19})"
    r"(?![\w-]|[.,]\d| \d{4}| \d{3}[.,])")
_ISSUED = re.compile(
    r"4(?:\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}(?:\d{3})?"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}(?:\d{3})?"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|220[0-4]\d{12,15}"  # Mir
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{10,15}")  # Maestro
_MONEY = (r"(?:[$€£¥₹%]|\b(?:EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CAD|AUD|euros?|dollars?|pounds?|francs?|yen|cents?|"
          r"thousands?|millions?|billions?|trillions?|mio|mrd|[kmb]n|shares?|units?)\b)")
_BEFORE = re.compile(_MONEY + r"[ \u00a0]{0,2}$", re.IGNORECASE)
_AFTER = re.compile(r"[ \u00a0]{0,2}" + _MONEY, re.IGNORECASE)
_ANYWHERE = re.compile(_MONEY, re.IGNORECASE)
_CARD_WORD = re.compile(
    r"card|visa\b|mastercard|amex|american express|maestro|diners|discover\b|karte|carte|tarjeta|\bPAN\b", re.IGNORECASE)
_SSN = re.compile(r"(?<![\w.,$-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-]|[.,]\d)")
_PHONE = re.compile(
    r"(?<![\w.,$€£+(-])(?:"
    r"\+[1-9]\d{0,2}(?:[ .()/-]{1,3}\d{1,5}){2,6}"  # +49 30 1234 5678
    r"|\+[1-9]\d{7,14}"  # +493012345678
    r"|(?:1[ .-])?\([2-9]\d\d\) ?[2-9]\d\d[.-]\d{4}"  # (651) 733-1110
    r"|(?:1[ .-])?[2-9]\d\d([.-])[2-9]\d\d\1\d{4}"  # 651-733-1110
    r")(?![\w-]|[.,]\d)")


def passes_luhn(digits: str) -> bool:
    """Tell whether digits end in the check digit of Luhn's formula."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_card(match: re.Match[str]) -> bool:
    """Tell whether digits are a card's number: an issuer's, with its check digit, and no amount.

    What money is said of, right before or after, is an amount. So are groups of four digits, which a row of a table has too,
    on a line that speaks of money and of no card.
    """
    digits = re.sub(r"\D", "", match[0])
    numbers = (digits, digits[:16]) if len(digits) == 19 else (digits,)  # the last group may be the code on the back
    if not any(_ISSUED.fullmatch(number) and len(set(number)) > 1 and passes_luhn(number) for number in numbers):
        return False
    if _BEFORE.search(match.string, max(0, match.start() - 20), match.start()) or _AFTER.match(match.string, match.end()):
        return False
    start = match.string.rfind("\n", 0, match.start()) + 1
    end = match.string.find("\n", match.end())
    line = match.string[start : end if end >= 0 else len(match.string)]
    return match[0].isdigit() or not _ANYWHERE.search(line) or _CARD_WORD.search(line) is not None


def _is_iban(match: re.Match[str]) -> bool:
    packed = match[0].replace(" ", "")
    moved = packed[4:] + packed[:4]
    return 15 <= len(packed) <= 34 and int("".join(str(int(sign, 36)) for sign in moved)) % 97 == 1


def _is_phone(match: re.Match[str]) -> bool:
    return 8 <= len(re.sub(r"\D", "", match[0])) <= 15


_FORMS: dict[Kind, tuple[re.Pattern[str], Callable[[re.Match[str]], bool]]] = {
    "email": (_EMAIL, lambda match: True), "iban": (_IBAN, _is_iban), "card": (_CARD, _is_card),
    "ssn": (_SSN, lambda match: True), "phone": (_PHONE, _is_phone),
}


def mask_personal(text: str, kinds: Collection[Kind] = KINDS) -> tuple[str, tuple[Kind, ...]]:
    """Return the text with ``[email removed]`` and the like for what was found, and the kinds that were."""
    found: list[Kind] = []
    for kind in KINDS:
        if kind not in kinds:
            continue
        pattern, is_one = _FORMS[kind]

        def mask(match: re.Match[str], kind: Kind = kind, is_one: Callable[[re.Match[str]], bool] = is_one) -> str:
            if not is_one(match):
                return match[0]
            found.append(kind)
            return f"[{kind} removed]"

        text = pattern.sub(mask, text)
    return text, tuple(dict.fromkeys(found))
