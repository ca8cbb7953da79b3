"""Passwords and tokens, which no record and no message may have: they are masked."""

import re

MASK = "***"
# Lengths are limited: otherwise a search through a long text would take for ever.
_SURE = "password|passwd|secret|credential|api[-_]?key|access[-_]?key|authorization"
_NAME = rf"(?:{_SURE}|token|signature|(?:\b|(?<=%3B)|(?<=%26))(?:pwd|sig))"
_SECRETS = [
    re.compile(rf"(?P<before>{before}){secret}(?P<after>{after})", re.IGNORECASE)
    for before, secret, after in [
        # Up to the last @ of a word, since passwords and user names may contain an @, as well as
        # the other special characters of a URL.
        (r"://[^\s:/]{0,200}:", r"\S{1,2000}", "@"),
        (r"https?://", r"[^\s:/@]{1,2000}", "@"),  # a token instead of a user
        # password=..., also in a URL within a URL (odbc_connect=...PWD%3D...).
        (rf"{_NAME}[\"']?\s?(?:=|%3D|:)\s?\"", r"[^\"]{1,2000}", '"'),
        (rf"{_NAME}[\"']?\s?(?:=|%3D|:)\s?'", r"[^']{1,2000}", "'"),
        (rf"{_NAME}(?:=|%3D)", r"[^&;\s'\"]+", ""),
        (rf"(?:{_SURE}):\s", r"(?!Bearer )[^&;,\s'\"]+", ""),
        (r"\bBearer\s", r"[^\s'\",]+", ""),
    ]
]


def mask(text: str) -> str:
    """The text with ``***`` in the place of each password and token.

    These are what stands between ``user:`` and ``@host``, and the values of ``password``,
    ``token``, ``secret`` and the like in a URL, an argument, a mapping or a header.
    """
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<before>{MASK}\g<after>", text)
    return text
