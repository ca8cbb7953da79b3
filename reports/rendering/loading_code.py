"""Python that loads a run's model and lets it act, for a reader to copy.

It is written from what the run's record says, which may come from anyone: text becomes a literal,
and what is to be imported has to be a path of identifiers. Nothing is imported to write it.
"""

from __future__ import annotations

from keyword import iskeyword
from typing import Any

from benchmarks.algorithms import ALGORITHMS
from benchmarks.errors import SpecError
from benchmarks.records import RunSpec
from benchmarks.zoo import as_list

_PACKAGE = "sb3_natural"


def class_path(algo: str) -> tuple[str, str]:
    """The module and the name of an algorithm's class: ``("sb3_natural", "NPG")`` for ``npg``.

    :param algo: a name, or a path such as ``sbx:PPO`` or ``my_package.module.MyPPO``
    :raises SpecError: neither
    """
    path = ALGORITHMS.get(algo, algo)
    return _split(path.replace(":", ".", 1), "algo")


def loading_code(spec: RunSpec, model: str, statistics: str | None, steps: int = 1_000) -> str:
    """A script that makes the run's environment, loads the model and plays ``steps`` steps.

    :param model: the model's file
    :param statistics: the file of ``VecNormalize``; None: there is none
    :raises SpecError: the record names a class that Python could not import
    """
    module, name = class_path(spec.algo)
    wrappers = [_wrapper(each) for each in _wrappers(spec)]
    stack = spec.environment.get("frame_stack", spec.hyperparams.get("frame_stack"))
    imports = [(module, name), (_PACKAGE, "make_vec_env"), *(found for found, _ in wrappers)]
    lines = [*_environment(spec, wrappers), ""]
    if stack is not None:
        imports.append(("stable_baselines3.common.vec_env", "VecFrameStack"))
        lines[-1:] = [f"env = VecFrameStack(env, {_literal(stack)})", ""]
    if statistics is not None:
        imports.append(("stable_baselines3.common.vec_env", "VecNormalize"))
        lines[-1:] = [
            f"env = VecNormalize.load({_literal(statistics)}, env)",
            "env.training = env.norm_reward = False",
            "",
        ]
    lines.append(f"model = {name}.load({_literal(model)}, env=env)")
    # As the algorithm has wrapped it: the channels of images first.
    lines.append("env = model.get_env()")
    lines += _playing(name, steps)
    if name.startswith("Recurrent"):
        imports.append(("numpy", "ones"))
    return "\n".join([*_import_lines(imports), "", *lines])


def _environment(spec: RunSpec, wrappers: list[tuple[tuple[str, str], Any]]) -> list[str]:
    """Lines that make one copy of the run's environment, without what stacks or normalises."""
    arguments = [_literal(spec.env_id)]
    if kwargs := spec.environment.get("kwargs"):
        arguments.append(f"env_kwargs={_literal(kwargs)}")
    if not wrappers:
        return [f"env = make_vec_env({', '.join(arguments)})"]
    calls = [
        f"    env = {name}(env{f', **{_literal(options)}' if options else ''})"
        for (_, name), options in wrappers
    ]
    made = f"env = make_vec_env({', '.join(arguments)}, wrapper_class=wrapped)"
    return ["", "def wrapped(env):", *calls, "    return env", "", "", made]


def _playing(name: str, steps: int) -> list[str]:
    observation = ["observation = env.reset()"]
    loop = f"for _ in range({steps}):"
    step = "    observation, reward, {}, info = env.step(action)"
    if not name.startswith("Recurrent"):
        predict = "    action, _ = model.predict(observation, deterministic=True)"
        return [*observation, loop, predict, step.format("done")]
    predict = "model.predict(observation, state, starts, deterministic=True)"
    return [
        *observation,
        "state, starts = None, ones(1, dtype=bool)  # the policy's memory; where episodes begin",
        loop,
        f"    action, state = {predict}",
        step.format("starts"),
    ]


def _wrappers(spec: RunSpec) -> list[Any]:
    """The suite's wrappers, then the others of the hyperparameters, as a run has them."""
    suite = as_list(spec.environment.get("wrappers"))
    own = as_list(spec.hyperparams.get("env_wrapper"))
    return suite + [each for each in own if each not in suite]


def _wrapper(wrapper: Any) -> tuple[tuple[str, str], Any]:
    """The path of a wrapper's class and its arguments, from ``path`` or ``{path: arguments}``."""
    if isinstance(wrapper, dict) and len(wrapper) == 1:
        ((path, arguments),) = wrapper.items()
    else:
        path, arguments = wrapper, None
    return _split(path, "wrapper"), arguments


def _split(path: Any, what: str) -> tuple[str, str]:
    parts = path.split(".") if isinstance(path, str) else []
    if len(parts) < 2 or not all(part.isidentifier() and not iskeyword(part) for part in parts):
        raise SpecError(
            f"run.json: {what}: must be the path of a class, such as my_package.MyClass, "
            f"got {path!r}"
        )
    return ".".join(parts[:-1]), parts[-1]


def _import_lines(imports: list[tuple[str, str]]) -> list[str]:
    """One line for each module, in the order in which formatters put them: our own package last."""
    modules: dict[str, set[str]] = {}
    for module, name in imports:
        modules.setdefault(module, set()).add(name)
    ordered = sorted(modules, key=lambda module: (module == _PACKAGE, module))
    return [f"from {each} import {', '.join(sorted(modules[each]))}" for each in ordered]


def _literal(value: Any) -> str:
    """A value of JSON as Python has it, strings in double quotes where that needs no escapes."""
    if isinstance(value, dict):
        items = (f"{_literal(key)}: {_literal(each)}" for key, each in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    text = repr(value)
    if isinstance(value, str) and text.startswith("'") and '"' not in text:
        return f'"{text[1:-1]}"'
    return text
