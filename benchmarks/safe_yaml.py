"""YAML as this suite reads it: short, not deeply nested, and with the values of JSON alone."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import SpecError

_LARGEST = 2**18  # bytes of a file; PyYAML takes seconds for that
_MOST_NODES = 50_000  # aliases written out
_DEEPEST = 30
_LARGEST_INTEGER = 2**63
# Where infinity means "never".
MAY_BE_INFINITE = {"correction_term"}
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_YAML = "tag:yaml.org,2002:"
_SCALARS = {f"{_YAML}{name}" for name in ("null", "bool", "int", "float", "str")}
_MERGE = f"{_YAML}merge"
_PYTHON = f"{_YAML}python/"
_ALLOWED = "null, true, false, a number, a string, a list or a mapping"


class _Loader(yaml.SafeLoader):
    """SafeLoader for the values of JSON, which reads ``1e-3`` as a number.

    It refuses a key that is given twice, deep nesting, and text that is large once its aliases are
    written out. It does so while it reads the text, before it makes any values.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node of the text, if it is one that may be read."""
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _error(f"is nested more than {_DEEPEST} levels deep", mark)
        node = super().compose_node(parent, index)
        assert node is not None
        self._depth -= 1
        if is_alias:
            if id(node) not in self._sizes:
                raise _error("contains itself", mark)
        else:
            self._sizes[id(node)] = self._size(node)
        if index is None and isinstance(parent, yaml.MappingNode):
            _check_key(node, mark)
        else:
            self.check_tag(node, mark)
        return node

    def check_tag(self, node: yaml.Node, mark: yaml.Mark) -> None:
        """:raises yaml.YAMLError: a node is of a kind that JSON does not have"""
        if isinstance(node, yaml.ScalarNode):
            is_allowed = node.tag in _SCALARS
        else:
            kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
            is_allowed = node.tag == f"{_YAML}{kind}"
        if not is_allowed:
            raise _error(f"must be {_ALLOWED}, got {_written(node)}", mark)

    def _size(self, node: yaml.Node) -> int:
        """The number of values in a node once its aliases are written out."""
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [each for pair in children for each in pair]
        size = 1 + sum(self._sizes[id(child)] for child in children)
        if size > _MOST_NODES:
            raise _error(f"has more than {_MOST_NODES:,} values", node.start_mark)
        return size

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node whose keys differ."""
        # Before the merge keys (<<) are expanded, since a merged key may be overridden.
        counts = Counter(key.value for key, _ in node.value if key.tag != _MERGE)
        for key, count in counts.items():
            if count > 1:
                raise _error(f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; an error names its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError) as error:  # a scalar does not fit its tag
            tag = node.tag.rpartition(":")[2]
            raise _error(f"{node.value!r} is no {tag}", node.start_mark) from error


class _PythonLoader(_Loader):
    """Also for what ``yaml.dump`` makes of Python's objects, of which none is made.

    An ``OrderedDict`` is read as a mapping, a tuple as a list, and everything else as the text of
    its tag, such as ``!!python/name:torch.nn.ReLU``.
    """

    def check_tag(self, node: yaml.Node, mark: yaml.Mark) -> None:
        if not node.tag.startswith(_PYTHON):
            super().check_tag(node, mark)

    def ordered_dict(self, node: yaml.Node) -> dict[str, Any]:
        """The mapping of the constructor's arguments: a list of pairs, if there are any."""
        arguments = self._list(node)
        pairs = arguments[0] if arguments else []
        if not (isinstance(pairs, list) and all(_is_pair(each) for each in pairs)):
            raise _error("must be an OrderedDict of pairs with strings as keys", node.start_mark)
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            raise _error("a key is given twice", node.start_mark)
        return mapping

    def _list(self, node: yaml.Node) -> list[Any]:
        if not isinstance(node, yaml.SequenceNode):
            raise _error(f"must be a list, got {_written(node)}", node.start_mark)
        return self.construct_sequence(node, deep=True)

    def tag_text(self, suffix: str, node: yaml.Node) -> str:
        """The tag, in place of an object."""
        return f"!!python/{suffix}"


_PythonLoader.add_constructor(
    f"{_PYTHON}object/apply:collections.OrderedDict", _PythonLoader.ordered_dict
)
_PythonLoader.add_constructor(f"{_PYTHON}tuple", _PythonLoader._list)
_PythonLoader.add_multi_constructor(_PYTHON, _PythonLoader.tag_text)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _check_key(node: yaml.Node, mark: yaml.Mark) -> None:
    if node.tag not in (f"{_YAML}str", _MERGE) or not isinstance(node, yaml.ScalarNode):
        raise _error(f"a key must be a string, got {_written(node)}; put it in quotes", mark)


def _written(node: yaml.Node) -> str:
    """A node's tag, and its text if it is a scalar."""
    tag = node.tag.replace(_YAML, "!!")
    return f"{tag} {node.value!r}" if isinstance(node, yaml.ScalarNode) else tag


def _error(text: str, mark: yaml.Mark) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, text, mark)


# In YAML 1.1, which PyYAML follows, a number with an exponent but without a dot is a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(text: str, source: str, python_tags: bool = False) -> Any:
    """The value of a YAML text.

    :param source: where the text comes from, for the error message
    :param python_tags: Python's objects, as ``yaml.dump`` writes them, are read as plain data: an
        ``OrderedDict`` as a mapping, a tuple as a list, anything else as the text of its tag
    :raises SpecError: not valid YAML, or values other than those of JSON: null, booleans, finite
        numbers, strings, lists, and mappings with strings as keys
    """
    _check_size(len(text), source)
    try:
        value = yaml.load(text, Loader=_PythonLoader if python_tags else _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        said = ", ".join(text for text in (error.context, error.problem) if text)
        raise SpecError(f"{source}: {place}{said}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{source}: {error}") from None
    check_values(value, source)
    return value


def read_mapping(path: Path, python_tags: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file.

    :param python_tags: as for :func:`parse`
    :raises SpecError: no such file, not UTF-8, not a mapping, or as :func:`parse`
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)  # no more, however large the file is
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
    _check_size(len(content), str(path))
    try:
        text = content.decode("utf-8-sig")  # some editors put a mark at the start
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise SpecError(
            f"{path}: must be UTF-8 text, got the byte 0x{byte:02x} at position {error.start}"
        ) from None
    value = parse(text, str(path), python_tags)
    if not isinstance(value, dict):
        raise SpecError(f"{path}: must be a mapping, got {value!r}")
    return value


def _check_size(size: int, source: str) -> None:
    if size > _LARGEST:
        raise SpecError(f"{source}: must have at most {_LARGEST:,} bytes")


def check_keys(fields: Mapping[str, Any], allowed: Collection[str], where: str) -> None:
    """Check that a mapping has no other keys than those allowed.

    :param where: the mapping was written, for the error message
    :raises SpecError: naming the key, its value and what is allowed
    """
    for key, value in fields.items():
        if key not in allowed:
            raise SpecError(
                f"{where}: {key}: {value!r} is for an unknown key; allowed are {', '.join(allowed)}"
            )


def check_values(value: Any, where: str, key: str = "", depth: int = 0) -> None:
    """Check that a value is one of JSON's, and neither too large nor too deeply nested.

    :param where: the value was written, for the error message; may be empty
    :param key: the value's key, if it has one
    :raises SpecError: naming the key, the value and what is allowed
    """
    if depth > _DEEPEST:
        raise _value_error(where, f"must be nested at most {_DEEPEST} levels deep")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if _UNWRITABLE.search(value):
            raise _value_error(where, f"must be text that can be written, got {value!r}")
    elif isinstance(value, int):
        if abs(value) >= _LARGEST_INTEGER:
            raise _value_error(where, "must be an integer of less than 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value) and not (key in MAY_BE_INFINITE and value > 0):
            raise _value_error(where, f"must be a finite number, got {value}")
    elif isinstance(value, list):
        for i, each in enumerate(value):
            check_values(each, _below(where, i), depth=depth + 1)
    elif isinstance(value, dict):
        for name, each in value.items():
            check_values(name, _below(where, "a key"))
            check_values(each, _below(where, name), name, depth + 1)
    else:
        raise _value_error(where, f"must be {_ALLOWED}, got {value!r}")


def _below(where: str, key: object) -> str:
    return f"{where}: {key}" if where else str(key)


def _value_error(where: str, problem: str) -> SpecError:
    return SpecError(f"{where}: {problem}" if where else problem)
