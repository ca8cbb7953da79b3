"""What must stand in no record and no message: passwords and tokens, as URLs have them."""

import re

MASK = "***"
# Lengths are limited, since a search through a long text would take for ever otherwise.
_SURE = "password|passwd|secret|credential|api[-_]?key|access[-_]?key|authorization"
_NAME = rf"(?:{_SURE}|token|signature|(?:\b|(?<=%3B)|(?<=%26))(?:pwd|sig))"
_SECRETS = [
    re.compile(rf"(?P<before>{before}){secret}(?P<after>{after})", re.IGNORECASE)
    for before, secret, after in [
        # Up to the last @ of a word: a password may have one, and the other characters of a URL,
        # too, and so may a user's name.
        (r"://[^\s:/]{0,200}:", r"\S{1,2000}", "@"),
        (r"https?://", r"[^\s:/@]{1,2000}", "@"),  # a token in the place of the user
        # password=..., also where a URL has another one in itself (odbc_connect=...PWD%3D...).
        (rf"{_NAME}[\"']?\s?(?:=|%3D|:)\s?\"", r"[^\"]{1,2000}", '"'),
        (rf"{_NAME}[\"']?\s?(?:=|%3D|:)\s?'", r"[^']{1,2000}", "'"),
        (rf"{_NAME}(?:=|%3D)", r"[^&;\s'\"]+", ""),
        (rf"(?:{_SURE}):\s", r"(?!Bearer )[^&;,\s'\"]+", ""),
        (r"\bBearer\s", r"[^\s'\",]+", ""),
    ]
]


def mask(text: str) -> str:
    """A text with ``***`` for each password or token of a URL in it.

    Those are what stands between ``user:`` and ``@host``, and what is called ``password``,
    ``token``, ``secret`` and the like, in a URL, an argument, a mapping or a header.
    """
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<before>{MASK}\g<after>", text)
    return text
