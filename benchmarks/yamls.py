"""YAML as this suite reads it."""

import re
from pathlib import Path
from typing import Any

import yaml


class SpecError(ValueError):
    """What was asked for cannot be run; the message says where, what was given, what is allowed."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-3`` as a number and refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Before the merge keys (<<) are expanded: overriding a merged key is what they are for.
        keys = [key.value for key, _ in node.value]
        repeated = sorted({key for key in keys if keys.count(key) > 1 and key != "<<"})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"{repeated[0]!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


# YAML 1.1, which PyYAML follows, takes a number with an exponent but no dot for a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(text: str, source: str) -> Any:
    """The value of a YAML text.

    :param source: where the text comes from, for the error message
    :raises SpecError: not valid YAML
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError(f"{source}: {error}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    :raises SpecError: no such file, not UTF-8, not valid YAML, or not a mapping
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise SpecError(
            f"{path}: must be UTF-8 text, got the byte 0x{byte:02x} at position {error.start}"
        ) from None
    value = parse(text, str(path))
    if not isinstance(value, dict):
        raise SpecError(f"{path}: must be a mapping, got {value!r}")
    return value
