"""Text that others have written, such as the message of an exception: fit to be kept and shown."""

import re

from benchmarks.secrets import mask

# What no file of UTF-8 text can hold, and what a terminal would obey.
_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def tamed(text: str, longest: int) -> str:
    """A text without passwords, control characters and half characters, and not longer.

    Of one that is too long, the beginning and the end are kept.

    :param longest: how many characters are kept
    """
    # Long enough for the secrets that this cuts through to be cut away below.
    text = mask(_cut(text, 10 * longest))
    text = _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return _cut(text, longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters left out]\n{text[-half:]}"
