"""A Sphinx extension: the arguments of a docstring as a table with type, default and meaning.

Meanings come from the docstring's ``:param name:`` lines, types and defaults from the signature.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import object_description
from sphinx.util.typing import stringify_annotation

PARAM = re.compile(r":param \*{0,2}(?P<name>\w+):(?P<meaning>.*)")
FIELD = re.compile(r":\w+[^:`]*:")
SHORT_ENOUGH = 4


def meanings(lines: list[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """What stands before the arguments, the meaning of each, and what stands after them."""
    starts = [n for n, line in enumerate(lines) if PARAM.match(line)]
    if not starts:
        return lines, {}, []
    found: dict[str, str] = {}
    name, end = "", len(lines)
    for number, line in enumerate(lines[starts[0] :], starts[0]):
        if match := PARAM.match(line):
            name = match["name"]
            found[name] = match["meaning"].strip()
        elif line.startswith(" ") or (not line.strip() and number < starts[-1]):
            found[name] += f" {line.strip()}"
        else:
            end = number
            break
    return lines[: starts[0]], found, lines[end:]


def signature_of(documented: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(documented)
    except (TypeError, ValueError):
        return None


def without_address(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def described(parameter: inspect.Parameter | None) -> tuple[str, str]:
    """Type and default of an argument, as text; empty where there is none."""
    if parameter is None:
        return "", ""
    empty = inspect.Parameter.empty
    kind = "" if parameter.annotation is empty else parameter.annotation
    text = kind if isinstance(kind, str) else stringify_annotation(kind, "smart").replace("~", "")
    default = "" if parameter.default is empty else object_description(parameter.default)
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    return text.replace("Callable[[float], float]", "Schedule"), without_address(default)


def table(found: dict[str, str], signature: inspect.Signature | None) -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield "   :class: arguments"
    yield ""
    rows = [("Argument", "Type", "Default", "Meaning")]
    parameters = signature.parameters if signature else {}
    for name, meaning in found.items():
        if name.startswith("_"):
            continue
        kind, default = described(parameters.get(name))
        code = [f"``{text}``" if text else "" for text in (name, kind, default)]
        rows.append((code[0], code[1], code[2], without_labels(meaning)))
    for row in rows:
        for number, cell in enumerate(row):
            yield f"   {'*' if number == 0 else ' '} - {cell}".rstrip()
    yield ""


def inherited(documented: type) -> tuple[dict[str, str], Any]:
    """The arguments that a class takes from one of its bases, and which base that is."""
    for base in documented.__mro__[1:]:
        found = meanings((inspect.getdoc(base) or "").splitlines())[1]
        if found:
            return found, base
    return {}, documented


def without_labels(text: str) -> str:
    """References to pages of other projects' documentation, as code."""
    return re.sub(r":ref:`([^`]+)`", r"``\1``", text)


def with_table(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    before, found, after = meanings(lines)
    source = obj
    if not found and inspect.isclass(obj):
        found, source = inherited(obj)
    if found:
        lines[:] = [*before, "", *table(found, signature_of(source)), *after]


def shortened(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str, None] | None:
    """Long signatures keep what must be given: the table has the rest."""
    found = signature_of(obj)
    if signature is None or found is None:
        return None
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    names = [f"{'*' * {2: 1, 4: 2}.get(each.kind, 0)}{each.name}" for each in parameters]
    if len(parameters) > SHORT_ENOUGH:
        empty = inspect.Parameter.empty
        names = [n for n, each in zip(names, parameters, strict=True) if each.default is empty]
        names.append("...")
    return f"({', '.join(names)})", None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", with_table)
    app.connect("autodoc-process-signature", shortened)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
