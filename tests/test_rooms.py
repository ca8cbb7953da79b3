"""Which room imports which: the arrows of the design, read from the sources."""

from fnmatch import fnmatch

import pytest

from docs.imports import PACKAGES, ROOT, exists, imported, module_name, room_of

# One subject each, for every room but networks.
TOOLS = {f"sb3_natural.{name}" for name in ("arguments", "observations", "shapes", "spaces")}
ROOMS = {
    f"sb3_natural.{room}"
    for room in ("curvature", "networks", "rollouts", "environments", "updates")
}
# The algorithms of our own: none imports another.
OWN = {f"sb3_natural.{name}" for name in ("acer", "acktr", "nac", "natural_dqn", "npg")}
# A room is a package or a module, and what is in it unless that is a room of its own. Patterns say
# which other rooms each may import.
ARROWS = {
    # The document reaches the sections; they reach what they show and how it is shown.
    "reports": {"reports*", "benchmarks*", "studies*"},
    "reports.sections": {"reports.data", "reports.rendering", "benchmarks*", "studies*"},
    "reports.data": {"benchmarks*", "studies*"},
    "reports.rendering": {"benchmarks*"},
    "reports.live": {"reports.data", "reports.rendering", "benchmarks*"},
    "studies": {"benchmarks*", "studies.claims"},
    # Claims are about the library's own algorithms, and take them apart.
    "studies.claims": {"benchmarks*", "sb3_natural*", "studies", "studies.exact"},
    "studies.exact": set(),
    "benchmarks": {"sb3_natural*"},
    "sb3_natural": OWN
    | {
        "sb3_natural.baselines",
        "sb3_natural.curvature",
        "sb3_natural.environments",
        "sb3_natural.signal",
    },
    # What any algorithm's rollouts hold: a callback, beside the algorithms.
    "sb3_natural.signal": TOOLS
    | {"sb3_natural.curvature", "sb3_natural.networks", "sb3_natural.rollouts"},
    "sb3_natural.zoo": OWN,
    **{name: ROOMS | TOOLS | {"sb3_natural.loading"} for name in OWN},
    "sb3_natural.baselines": ROOMS | TOOLS,
    "sb3_natural.rollouts": TOOLS
    | {"sb3_natural.curvature", "sb3_natural.networks", "sb3_natural.environments"},
    "sb3_natural.updates": TOOLS | {"sb3_natural.curvature", "sb3_natural.networks"},
    "sb3_natural.curvature": TOOLS | {"sb3_natural.networks"},
    "sb3_natural.environments": TOOLS,
    "sb3_natural.networks": set(),
    **{tool: set() for tool in TOOLS},
    # Which algorithm a file is of is found among all of them.
    "sb3_natural.loading": TOOLS | {"sb3_natural"},
}


def forbidden(module: str, source: str) -> list[str]:
    room = room_of(module, ARROWS)
    return [
        f"{module} imports {name}"
        for name in imported(source)
        if (target := room_of(name, ARROWS)) != room
        and not any(fnmatch(target, pattern) for pattern in ARROWS[room])
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_imports_only_those_that_it_may(package):
    found = [
        line
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in forbidden(module_name(path), path.read_text())
    ]
    assert found == []


def test_every_room_is_there():
    assert [room for room in ARROWS if not exists(room)] == []


@pytest.mark.parametrize(
    ("module", "source", "is_forbidden"),
    [
        ("sb3_natural.npg.npg", "from sb3_natural.acer import ACER", True),
        ("sb3_natural.acktr.acktr", "from sb3_natural.npg.policies import MlpPolicy", True),
        ("sb3_natural.npg.npg", "from sb3_natural.npg.policies import MlpPolicy", False),
        ("sb3_natural.npg.npg", "import sb3_natural.curvature.solvers", False),
        ("sb3_natural.networks.mlp", "from sb3_natural.curvature import families", True),
        ("sb3_natural.curvature.solvers", "from sb3_natural import curvature", False),
        ("sb3_natural.curvature.solvers", "def f():\n    import benchmarks.run", True),
        ("sb3_natural.curvature.solvers", "from tests.helpers import make_policy", True),
        ("studies.study", "from benchmarks import run", False),
        ("studies.study", "from sb3_natural import NPG", True),
        ("benchmarks.run", "import studies", True),
        ("reports.data", "import pandas", False),
    ],
)
def test_a_forbidden_import_is_found(module, source, is_forbidden):
    assert bool(forbidden(module, source)) == is_forbidden


def test_sections_of_a_report_do_not_import_one_another():
    for path in (ROOT / "reports" / "sections").glob("*.py"):
        others = [name for name in imported(path.read_text()) if ".sections." in name]
        assert others == [], path.name
