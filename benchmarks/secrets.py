"""What must stand in no record and no message: passwords and tokens, as URLs have them."""

import re
import shlex
import sys

MASK = "***"
# Up to the last @ of a word: a password may have one, and the other characters of a URL, too.
_IN_URL = re.compile(r"(?P<before>\w[\w+.-]*://[^\s:/@]*:)[^\s@][^\s]*(?P<after>@)")
# password=..., also where a URL has another one in itself (odbc_connect=...PWD%3D...).
_NAMED = re.compile(
    r"""(?P<before>
        (?: [\w.-]* (?: password|passwd|token|secret|credential|signature|api_?key|access_?key )
          | (?: \b|(?<=%3B)|(?<=%26) ) (?: pwd|sig ) )
        (?: =|%3D ) ["']? )
    [^&;\s'"]+ (?P<after>)""",
    re.IGNORECASE | re.VERBOSE,
)


def mask(text: str) -> str:
    """A text with ``***`` for each password or token of a URL in it.

    Those are what stands between ``user:`` and ``@host``, and the values of parameters such as
    ``password=``, ``token=`` and ``secret=``.
    """
    for pattern in (_IN_URL, _NAMED):
        text = pattern.sub(rf"\g<before>{MASK}\g<after>", text)
    return text


def command_line(package: str) -> str:
    """The command that is being executed, ``python -m package ...``, for records."""
    # One by one: an argument's spaces do not end the URL in it.
    arguments = (mask(argument.replace(" ", "\0")).replace("\0", " ") for argument in sys.argv[1:])
    return f"python -m {package} {shlex.join(arguments)}"
