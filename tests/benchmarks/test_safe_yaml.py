"""YAML of others: what JSON has is read, and all else is refused at once, on one line."""

import time
from collections import OrderedDict
from pathlib import Path, PurePosixPath

import pytest
import yaml

from benchmarks.errors import SpecError
from benchmarks.safe_yaml import read_mapping
from benchmarks.specs import plan
from benchmarks.suite import load_suite
from benchmarks.zoo import hyperparams_for
from studies.search_spaces import read_space

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)

REFUSED = {
    "nothing": ("", "must be a mapping, got None"),
    "a comment": ("# nothing\n", "must be a mapping, got None"),
    "a list": ("- 1\n", r"must be a mapping, got \[1\]"),
    "a scalar": ("5", "must be a mapping, got 5"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2: expected a single document"),
    "a date": ("a: 2020-01-01", "line 1: must be null, .* got !!timestamp '2020-01-01'"),
    "a time": ("a: 2020-01-01 10:00:00", "!!timestamp"),
    "bytes": ("a: !!binary aGVsbG8=", "!!binary"),
    "a set": ("\n\na: !!set {x, y}", "line 3: .* got !!set"),
    "an ordered mapping": ("a: !!omap [x: 1]", "!!omap"),
    "pairs": ("a: !!pairs [x: 1]", "!!pairs"),
    "an object": ("a: !!python/object:os.system x", "!!python/object:os.system"),
    "a tag of one's own": ("a: !mine x", "!mine 'x'"),
    "a tag by prefix": ("%TAG ! tag:x,2000:\n---\na: !y 1", "tag:x,2000:y"),
    "no integer": ("a: !!int foo", "line 1: 'foo' is no int"),
    "no float": ("a: !!float foo", "line 1: 'foo' is no float"),
    "no boolean": ("a: !!bool foo", "line 1: 'foo' is no bool"),
    "an empty integer": ("a: !!int ''", "'' is no int"),
    "a list called a string": ("a: !!str [1]", "got !!str"),
    "a list called a mapping": ("a: !!map [1]", "got !!map"),
    "a mapping called a list": ("a: !!seq {b: 1}", "got !!seq"),
    "a lone value sign": ("a: =", "!!value"),
    "an integer as key": ("1: 2", "a key must be a string, got !!int '1'; put it in quotes"),
    "a boolean as key": ("x: {on: 2}", "a key must be a string, got !!bool 'on'"),
    "null as key": ("~: 2", "a key must be a string, got !!null"),
    "a list as key": ("? [1, 2]\n: 3", "a key must be a string, got !!seq"),
    "a mapping as key": ("{{a: 1}: 2}", "a key must be a string, got !!map"),
    "a date as key": ("2020-01-01: 1", "a key must be a string, got !!timestamp"),
    "a key given twice": ("b: 0\na: 1\na: 2", "'a' is given twice"),
    "NUL": ("a: \0", "unacceptable character #x0000"),
    "an escaped NUL": (r'a: "\0"', r"a: must be text that can be written, got '\\x00'"),
    "a bell": ("a: \a", "unacceptable character #x0007"),
    "a surrogate": (r'a: {b: ["\ud800"]}', "a: b: 0: must be text that can be written"),
    "a surrogate in a key": (r'a: {"\ud800": 1}', "must be text that can be written"),
    "NaN": ("a: {b: .nan}", "a: b: must be a finite number, got nan"),
    "infinity": ("a: [1, .inf]", "a: 1: must be a finite number, got inf"),
    "minus infinity": ("correction_term: -.inf", "must be a finite number, got -inf"),
    "a float too large": ("a: 1e999", "must be a finite number, got inf"),
    "an integer of 30 digits": ("a: " + "9" * 30, "a: must be an integer of less than 64 bits"),
    "an integer of 5,000 digits": ("a: " + "9" * 5_000, "line 1: '9999"),
    "an alias bomb": (BOMB, "line 5: has more than 50,000 values"),
    "a bomb of merge keys": (MERGE_BOMB, "has more than 50,000 values"),
    "a list that contains itself": ("a: &a [*a]", "line 1: contains itself"),
    "a mapping that contains itself": ("a: &a {b: *a}", "contains itself"),
    "an alias of nothing": ("a: *x", "found undefined alias 'x'"),
    "a merge of a scalar": ("a: {<<: 5}", "expected a mapping or list of mappings"),
    "brackets": ("a: " + "[" * 100_000, "is nested more than 30 levels deep"),
    "indents": ("".join(" " * i + "a:\n" for i in range(500)), "line 30: is nested more than 30"),
    "many values": ("{" + ",".join(f"a{i}" for i in range(30_000)) + "}", "more than 50,000"),
    "50 MB": ("a: " + "x" * 50_000_000, "must have at most 262,144 bytes"),
    "an open quote": ("a: '", "found unexpected end of stream"),
    "a tab": ("a:\n\t- 1", "line 2: "),
    "another version": ("%YAML 9.9\n---\na: 1", "found incompatible YAML document"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "given.yaml"


def refusal(path: Path) -> str:
    with pytest.raises(SpecError) as error:
        read_mapping(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 1_100
    return message


@pytest.mark.parametrize("what", REFUSED)
def test_what_json_has_not_is_refused_at_once_on_one_line(path: Path, what: str) -> None:
    text, expected = REFUSED[what]
    path.write_bytes(text.encode())
    began = time.perf_counter()

    message = refusal(path)

    assert time.perf_counter() - began < 5
    with pytest.raises(SpecError, match=expected):
        raise SpecError(message)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: \xff", "must be UTF-8 text, got the byte 0xff at position 3"),
        ("a: 1".encode("utf-16"), "must be UTF-8 text"),
        (b"\xff" * 10**6, "must have at most 262,144 bytes"),
    ],
)
def test_what_is_no_text_is_refused(path: Path, content: bytes, expected: str) -> None:
    path.write_bytes(content)

    assert expected in refusal(path)


def test_what_is_no_file_is_refused(path: Path) -> None:
    path.mkdir()

    assert "Is a directory" in refusal(path)
    assert "at most 262,144 bytes" in refusal(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\ufeffa: 1", {"a": 1}),
        ("a: &a {x: 1}\nb: {<<: *a, x: 2, y: 3}", {"a": {"x": 1}, "b": {"x": 2, "y": 3}}),
        ("a: [null, true, 1e-3, !!float 1e6, 'x', {}]", {"a": [None, True, 1e-3, 1e6, "x", {}]}),
        ("correction_term: .inf", {"correction_term": float("inf")}),
        ("'1': !!str 5", {"1": "5"}),
        ("a: -9223372036854775807", {"a": -(2**63) + 1}),
    ],
)
def test_what_json_has_is_read(path: Path, text: str, value: object) -> None:
    path.write_text(text)

    assert read_mapping(path) == value


ODD = [
    "null", "true", "0", "-1", "1.5", "1e300", "''", "' '", "..", "a/b", "'a:b:c'", "[]", "[1]",
    "[null]", "[[1]]", "{}", "{a: 1}", "{a: {b: [1]}}", "lin_", "lin_nan", "dict(", "'[1]'",
    "dict(a=1)", "'dict(**{})'", "'dict(a={[1]: 2})'", "nn.Nope", "x" * 5_000,
    "'" + "(" * 5_000 + "'", "'" + "-" * 9_000 + "1'", "dict(a=b'x')", "dict(a=1e999)",
    "9223372036854775807",
]  # fmt: skip
SUITE_KEYS = ["n_timesteps", "kwargs", "wrappers", "frame_stack"]


@pytest.mark.parametrize("odd", ODD)
def test_odd_values_in_a_suite_are_refused_or_taken(tmp_path: Path, odd: str) -> None:
    """In every place of it, with its environments made: no other exception leaves."""
    places = [f"environments: {odd}", f"evaluation: {odd}", f"environments:\n  {odd}: 1"]
    places += [f"environments: {{CartPole-v1: {odd}}}"]
    places += [f"{key}: {odd}\nenvironments: {{CartPole-v1: }}" for key in SUITE_KEYS]
    places += [
        f"environments: {{CartPole-v1: {{n_timesteps: 64}}}}\nevaluation: {{{key}: {odd}}}"
        for key in ("points", "episodes", "seed")
    ]
    messages = []
    for number, text in enumerate(places):
        path = tmp_path / f"suite{number}.yaml"
        path.write_text(text)
        try:
            suite = load_suite(str(path))
            plan(suite, ["ppo"], [env.env_id for env in suite.envs], [0])
        except SpecError as error:
            messages.append(str(error))
    assert all(message.isprintable() for message in messages)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("algo", ["npg", "ppo", "acer", "stable_baselines3:SAC"])
def test_odd_values_of_hyperparameters_are_refused_or_taken(
    tmp_path: Path, algo: str, odd: str
) -> None:
    path = tmp_path / "own.yml"
    keys = ["gamma", "n_steps", "n_envs", "policy", "policy_kwargs", "normalize", "env_wrapper"]
    keys += ["frame_stack", "n_timesteps", "device", "learning_rate", "train_freq", "noise_type"]
    keys += ["replay_buffer_class", "ent_coef", "target_kl", odd]
    messages = []
    for text in [f"default: {odd}", *(f"default: {{{key}: {odd}}}" for key in keys)]:
        path.write_text(text)
        try:
            hyperparams_for(algo, "CartPole-v1", path)
        except SpecError as error:
            messages.append(str(error))
    assert all(message.isprintable() for message in messages)


def test_python_objects_are_plain_data_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "dumped.yml"
    written = OrderedDict(
        net_arch=(64, 64), cls=OrderedDict, empty=OrderedDict(), path=PurePosixPath("a")
    )
    path.write_text(yaml.dump(written))

    assert read_mapping(path, python_tags=True) == {
        "net_arch": [64, 64],
        "cls": "!!python/name:collections.OrderedDict",
        "empty": {},
        "path": "!!python/object/apply:pathlib.PurePosixPath",
    }
    with pytest.raises(SpecError, match="got !!python/tuple"):
        read_mapping(path)


@pytest.mark.parametrize("odd", ODD)
def test_odd_values_in_a_search_space_are_refused_or_taken(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "space.yml"
    keys = ["low", "high", "log", "integer", "choices", "default", "symbol", "meaning"]
    texts = [
        f"gamma: {odd}",
        f"{odd}: {{low: 0.1, high: 0.9}}",
        f"gamma: {{choices: [0.9, {odd}]}}",
    ]
    texts += [f"gamma: {{low: 0.1, high: 0.9, {key}: {odd}}}" for key in keys[2:]]
    texts += [f"gamma: {{low: {odd}, high: 0.9}}", f"gamma: {{low: 0.1, high: {odd}}}"]
    messages = []
    for text in texts:
        path.write_text(text)
        try:
            read_space("npg", path)
        except SpecError as error:
            messages.append(str(error))
    assert all(message.isprintable() for message in messages)
