"""Hyperparameters within others: ``policy_kwargs.log_std_init``.

The outer one may be a mapping, or a text as RL Baselines3 Zoo writes it, such as
``"dict(log_std_init=-2, activation_fn=nn.ReLU)"``, which remains a text.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.errors import SpecError


def get(hyperparams: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name, None if there is none; a class is its text (``nn.ReLU``).

    :raises SpecError: the outer hyperparameter is a text that cannot be read
    """
    key, *path = name.split(".")
    value = hyperparams.get(key)
    if path and isinstance(value, str):
        return _value(_found(_parsed(value, key), path))
    for each in path:
        value = value.get(each) if isinstance(value, Mapping) else None
    return value


def put(hyperparams: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The hyperparameters with another value of a dotted name; its neighbours stay.

    The name of a class turns the outer hyperparameter into a text: only there it can be written.

    :raises SpecError: the outer hyperparameter is a text that cannot be read
    """
    key, *path = name.split(".")
    if not path:
        return {**hyperparams, key: value}
    written = hyperparams.get(key)
    if not isinstance(written, str | Mapping):
        written = {}  # as for normalize: true
    if isinstance(written, str) or _names_class(value):
        text = written if isinstance(written, str) else repr(written) if written else "dict()"
        return {**hyperparams, key: ast.unparse(_with(_parsed(text, key), path, _code(value)))}
    return {**hyperparams, key: put(written, ".".join(path), value)}


def _python(text: str, where: str) -> Any:
    """See :func:`benchmarks.zoo.parse_python`."""
    from benchmarks.zoo import parse_python  # slow to import, and most values are no text

    return parse_python(text, where)


def _parsed(text: str, key: str) -> ast.expr:
    _python(text, key)
    return ast.parse(text.strip(), mode="eval").body


def _entries(node: ast.expr | None) -> dict[Any, ast.expr]:
    """The entries of ``dict(...)`` or ``{...}``; empty for anything else."""
    if isinstance(node, ast.Call):
        return {keyword.arg: keyword.value for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): value for key, value in pairs if key is not None}
    return {}


def _found(node: ast.expr | None, path: Sequence[str]) -> ast.expr | None:
    for each in path:
        node = _entries(node).get(each)
    return node


def _with(node: ast.expr | None, path: Sequence[str], value: ast.expr) -> ast.expr:
    if not path:
        return value
    entries = _entries(node)
    entries[path[0]] = _with(entries.get(path[0]), path[1:], value)
    if isinstance(node, ast.Dict):
        return ast.Dict([ast.Constant(key) for key in entries], list(entries.values()))
    keywords = [ast.keyword(key, each) for key, each in entries.items()]
    return ast.Call(ast.Name("dict"), [], keywords)


def _value(node: ast.expr | None) -> Any:
    if node is None:
        return None
    text = ast.unparse(node)
    return text if _names_class(text) else _python(text, text)


def _code(value: Any) -> ast.expr:
    return ast.parse(value if _names_class(value) else repr(value), mode="eval").body


def text_of(default: Any) -> Any:
    """An argument's default as it is written; a class of PyTorch is its name."""
    for module in ("nn", "torch.optim") if isinstance(default, type) else ():
        text = f"{module}.{default.__name__}"
        if _names_class(text) and _python(text, text) is default:
            return text
    return list(default) if isinstance(default, tuple) else default


def _names_class(value: Any) -> bool:
    try:
        return isinstance(value, str) and isinstance(_python(value, value), type)
    except SpecError:
        return False
