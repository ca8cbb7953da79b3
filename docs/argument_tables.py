"""A Sphinx extension: the arguments of a docstring as a table with type, default and meaning.

Meanings come from the docstring's ``:param name:`` lines, types and defaults from the signature.
What a docstring does not explain is explained by that of a base class, if it has the same argument.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from sphinx.application import Sphinx
from sphinx.util.inspect import object_description
from sphinx.util.typing import stringify_annotation

PARAM = re.compile(r":param \*{0,2}(?P<name>\w+):(?P<meaning>.*)")
SHORT_ENOUGH = 4
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
OURS = ("sb3_natural", "benchmarks", "studies", "reports")


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
    """Its signature, or None if it has none, as some classes written in C."""
    try:
        return inspect.signature(documented)
    except (TypeError, ValueError):
        return None


def without_address(text: str) -> str:
    """A default's text without the place in memory, which changes with every build."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def default_of(parameter: inspect.Parameter) -> str:
    """The default as text; empty where there is none."""
    if parameter.default is inspect.Parameter.empty:
        return ""
    # What a dataclass makes anew for each object; ours are empty lists and dictionaries.
    return without_address(object_description(parameter.default)).replace("<factory>", "empty")


def described(parameter: inspect.Parameter | None) -> tuple[str, str]:
    """Type and default of an argument, as text; empty where there is none."""
    if parameter is None:
        return "", ""
    empty = inspect.Parameter.empty
    kind = "" if parameter.annotation is empty else parameter.annotation
    if get_origin(kind) is Annotated:  # what else a type says is for those who read records
        kind = get_args(kind)[0]
    text = kind if isinstance(kind, str) else stringify_annotation(kind, "smart").replace("~", "")
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    return text.replace("Callable[[float], float]", "Schedule"), default_of(parameter)


def table(found: dict[str, str], signature: inspect.Signature | None) -> Iterator[str]:
    """The lines of the table.

    :param found: the meaning of each argument
    :param signature: has their types and defaults
    """
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


def explained(found: dict[str, str], bases: list[Any], signature: Any) -> dict[str, str]:
    """The meaning of each argument in the order of the signature, where it is known.

    :param found: what the docstring itself says; ``*args``, ``**kwargs`` and what is not in the
        signature come last
    :param bases: what is asked next, in this order
    :param signature: of the function or class
    """
    parameters = signature.parameters.values() if signature else []
    names = [each.name for each in parameters if each.kind not in VARIABLE]
    known = dict(found)
    for base in bases:
        of_base = meanings((inspect.getdoc(base) or "").splitlines())[1]
        known |= {name: of_base[name] for name in of_base if name in names and name not in known}
    return {name: known[name] for name in [*names, *found] if name in known}


def bases_of(what: str, name: str, obj: Any) -> list[Any]:
    """The base classes of a class, or the methods of a method's base classes with the same name."""
    if inspect.isclass(obj):
        return list(obj.__mro__[1:])
    if what != "method":
        return []
    address, _, method = name.rpartition(".")
    module, _, owner = address.rpartition(".")
    classes = getattr(importlib.import_module(module), owner).__mro__
    return [vars(each)[method] for each in classes if method in vars(each)]


def without_labels(text: str) -> str:
    """References to pages of other projects' documentation, as code."""
    return re.sub(r":ref:`([^`]+)`", r"``\1``", text)


def with_table(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put the table in the place of the ``:param name:`` lines."""
    before, found, after = meanings(lines)
    signature = signature_of(obj)
    if found := explained(found, bases_of(what, name, obj), signature):
        lines[:] = [*before, "", *table(found, signature), *after]


def is_foreign(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a class has from other projects: their documentation describes it."""
    function = getattr(obj, "fget", None) or getattr(obj, "func", None) or inspect.unwrap(obj)
    module = getattr(function, "__module__", None) or ""  # methods written in C have none
    is_ours = module.split(".")[0] in OURS
    return True if inspect.isroutine(function) and not is_ours else None  # None: as by default


def shortened(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str, None] | None:
    """Long signatures keep what must be given: the table has the rest."""
    found = signature_of(obj)
    if signature is None or found is None:
        return None
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    names = [f"{'*' * {2: 1, 4: 2}.get(each.kind, 0)}{each.name}" for each in parameters]
    given = [name for name, each in zip(names, parameters, strict=True) if must_be_given(each)]
    if len(names) > SHORT_ENOUGH and len(given) < len(names):
        names = [*given, "..."]
    return f"({', '.join(names)})", None


def must_be_given(parameter: inspect.Parameter) -> bool:
    """Whether a call without this argument is an error."""
    return parameter.default is inspect.Parameter.empty and parameter.kind not in VARIABLE


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", is_foreign)
    app.connect("autodoc-process-docstring", with_table)
    app.connect("autodoc-process-signature", shortened)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
