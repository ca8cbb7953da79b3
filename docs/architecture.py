"""The figure of the rooms and their imports: drawn by hand where, read from the code what."""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from docs.imports import arrows

# In points, y downwards. As narrow as the page on a telephone, so that text stays readable there.
WIDTH, HEIGHT = 375, 703
TINTS = {
    "reports": "#fdf0dc",
    "studies": "#eae4f6",
    "benchmarks": "#e0efdc",
    "sb3_natural": "#dfeaf7",
}
DIRECT, IMPLIED, UPWARDS = "#222222", "#a9b4c2", "#c2410c"


class Place(NamedTuple):
    """A rectangle: its upper left corner, its width and its height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """x of the right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """y of the lower edge."""
        return self.y + self.height

    @property
    def middle(self) -> tuple[float, float]:
        """The point in the middle."""
        return self.x + self.width / 2, self.y + self.height / 2


class Box(NamedTuple):
    """One or several rooms, drawn as one."""

    place: Place
    title: str
    text: str
    rooms: tuple[str, ...]

    @property
    def tint(self) -> str:
        """That of the rooms' package."""
        return TINTS[self.rooms[0].partition(".")[0]]


class Frame(NamedTuple):
    """Boxes that belong together; an arrow to or from another frame ends at its edge."""

    place: Place
    title: str
    boxes: tuple[str, ...]


class Route(NamedTuple):
    """Where an arrow leaves and where it ends: x, or y if it goes sideways."""

    start: float
    end: float


def of_plugin(*names: str) -> tuple[str, ...]:
    """The rooms of the plugin with these names."""
    return tuple(f"sb3_natural.{name}" for name in names)


BOXES = {
    "document": Box(Place(127, 26, 120, 34), "document", "commands, sections", ("reports",)),
    "sections": Box(Place(112, 84, 112, 34), "sections", "a module each", ("reports.sections",)),
    "live": Box(Place(270, 84, 92, 34), "live", "watch, record", ("reports.live",)),
    "data": Box(Place(13, 142, 112, 34), "data", "runs, logs, studies", ("reports.data",)),
    "rendering": Box(
        Place(214, 142, 148, 34), "rendering", "Markdown, HTML, figures", ("reports.rendering",)
    ),
    "studies": Box(Place(13, 234, 92, 34), "search", "hyperparameters", ("studies",)),
    "claims": Box(Place(196, 234, 76, 34), "claims", "to be tested", ("studies.claims",)),
    "exact": Box(Place(288, 234, 74, 34), "exact", "small MDPs", ("studies.exact",)),
    "benchmarks": Box(
        Place(13, 322, 226, 34), "run, sweep, suites", "records, statistics", ("benchmarks",)
    ),
    "zoo": Box(Place(13, 412, 74, 34), "zoo", "for RL Zoo", of_plugin("zoo")),
    "names": Box(
        Place(122, 412, 240, 34), "__init__", "from sb3_natural import NPG, ...", ("sb3_natural",)
    ),
    "algorithms": Box(
        Place(13, 474, 131, 48),
        "npg  acer  acktr\nnac  natural_dqn",
        "an algorithm each",
        of_plugin("npg", "acer", "acktr", "nac", "natural_dqn"),
    ),
    "baselines": Box(
        Place(154, 474, 78, 48), "baselines", "PPO, A2C,\nTRPO", of_plugin("baselines")
    ),
    "signal": Box(Place(244, 474, 56, 48), "signal", "a call-\nback", of_plugin("signal")),
    "updates": Box(Place(42, 548, 80, 34), "updates", "of first order", of_plugin("updates")),
    "rollouts": Box(
        Place(162, 548, 104, 34), "rollouts", "actors, recorders", of_plugin("rollouts")
    ),
    "loading": Box(Place(308, 548, 54, 34), "loading", "models", of_plugin("loading")),
    "curvature": Box(
        Place(50, 602, 122, 34), "curvature", "from batch to step", of_plugin("curvature")
    ),
    "environments": Box(
        Place(216, 602, 84, 34), "environments", "vectorised", of_plugin("environments")
    ),
    "networks": Box(Place(13, 656, 92, 34), "networks", "plain MLPs", of_plugin("networks")),
    "tools": Box(
        Place(128, 656, 234, 34),
        "arguments observations shapes spaces",
        "a tool each",
        of_plugin("arguments", "observations", "shapes", "spaces"),
    ),
}
FRAMES = {
    "reports": Frame(
        Place(5, 5, 365, 180), "reports", ("document", "sections", "live", "data", "rendering")
    ),
    "studies": Frame(Place(5, 213, 108, 63), "studies", ("studies",)),
    "studies.claims": Frame(
        Place(188, 213, 182, 63), "studies.claims, studies.exact", ("claims", "exact")
    ),
    "benchmarks": Frame(Place(5, 302, 242, 62), "benchmarks", ("benchmarks",)),
    "sb3_natural": Frame(
        Place(5, 390, 365, 308),
        "sb3_natural",
        tuple(name for name, box in BOXES.items() if box.tint == TINTS["sb3_natural"]),
    ),
}
ROOMS = [room for box in BOXES.values() for room in box.rooms]
PLACES = {name: each.place for name, each in (BOXES | FRAMES).items()}
# Around what is in between. An arrow without a route goes from middle to middle.
ROUTES = {
    ("document", "sections"): Route(177, 172),
    ("document", "data"): Route(134, 40),
    ("document", "live"): Route(225, 300),
    ("document", "rendering"): Route(200, 250),
    ("sections", "data"): Route(135, 90),
    ("sections", "rendering"): Route(200, 226),
    ("live", "data"): Route(285, 115),
    ("live", "rendering"): Route(325, 325),
    ("reports", "studies"): Route(59, 59),
    ("reports", "benchmarks"): Route(150, 150),
    ("studies", "studies.claims"): Route(234, 234),
    ("studies.claims", "studies"): Route(256, 256),
    ("studies", "benchmarks"): Route(59, 59),
    ("studies.claims", "benchmarks"): Route(215, 215),
    ("studies.claims", "sb3_natural"): Route(300, 300),
    ("benchmarks", "sb3_natural"): Route(126, 126),
    ("zoo", "algorithms"): Route(50, 50),
    ("names", "algorithms"): Route(134, 110),
    ("names", "curvature"): Route(149, 140),
    ("names", "baselines"): Route(193, 193),
    ("names", "environments"): Route(238, 240),
    ("names", "signal"): Route(272, 272),
    ("loading", "names"): Route(340, 340),
    ("algorithms", "networks"): Route(26, 26),
    ("algorithms", "updates"): Route(75, 75),
    ("algorithms", "curvature"): Route(128, 130),
    ("algorithms", "rollouts"): Route(137, 180),
    ("algorithms", "loading"): Route(141, 318),
    ("algorithms", "tools"): Route(139, 190),
    ("baselines", "updates"): Route(166, 110),
    ("baselines", "curvature"): Route(160, 152),
    ("baselines", "networks"): Route(157, 92),
    ("baselines", "rollouts"): Route(205, 208),
    ("signal", "rollouts"): Route(258, 246),
    ("signal", "curvature"): Route(251, 164),
    ("signal", "networks"): Route(247, 99),
    ("signal", "tools"): Route(290, 316),
    ("updates", "networks"): Route(46, 38),
    ("updates", "curvature"): Route(90, 90),
    ("rollouts", "curvature"): Route(172, 158),
    ("rollouts", "networks"): Route(165, 97),
    ("rollouts", "tools"): Route(200, 205),
    ("rollouts", "environments"): Route(250, 255),
    ("loading", "tools"): Route(340, 340),
    ("curvature", "networks"): Route(75, 70),
    ("curvature", "tools"): Route(150, 160),
    ("environments", "tools"): Route(258, 258),
}


def boxes_of() -> dict[str, str]:
    """Which box a room is drawn in."""
    return {room: name for name, box in BOXES.items() for room in box.rooms}


def drawn() -> set[tuple[str, str]]:
    """The arrows of the figure: between boxes of one frame, or between frames."""
    boxes = boxes_of()
    frames = {name: title for title, frame in FRAMES.items() for name in frame.boxes}
    pairs = [(boxes[room], boxes[other]) for room, other in arrows(ROOMS)]
    lifted = {
        (box, other) if frames[box] == frames[other] else (frames[box], frames[other])
        for box, other in pairs
    }
    return {(start, end) for start, end in lifted if start != end}


def implied(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows between boxes whose end can also be reached through others, always downwards."""
    down = {pair for pair in pairs if not runs_up(*pair) and pair[0] not in FRAMES}

    def reached(start: str) -> set[str]:
        nexts = {other for box, other in down if box == start}
        return nexts.union(*map(reached, nexts))

    return {
        (start, end)
        for start, end in down
        if any(end in reached(between) for box, between in down if box == start)
    }


def runs_up(start: str, end: str) -> bool:
    """Whether an arrow goes to what stands higher, or to the left on the same height."""
    return (PLACES[end].y, PLACES[end].x) < (PLACES[start].y, PLACES[start].x)


def draw() -> Figure:
    """The figure; each arrow's id in it is ``arrow-START-END``."""
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    ax.set_axis_off()
    pairs = drawn()
    pale = implied(pairs)
    for frame in FRAMES.values():
        _draw_frame(ax, frame)
    for pair in sorted(pairs, key=lambda pair: (pair not in pale, pair)):
        colour = UPWARDS if runs_up(*pair) else IMPLIED if pair in pale else DIRECT
        _draw_arrow(ax, pair, colour)
    for box in BOXES.values():
        _draw_box(ax, box)
    return figure


def _rounded(place: Place, **look: Any) -> FancyBboxPatch:
    style = "round,pad=0,rounding_size=5"
    return FancyBboxPatch(place[:2], place.width, place.height, boxstyle=style, **look)


def _draw_frame(ax: Axes, frame: Frame) -> None:
    ax.add_patch(_rounded(frame.place, facecolor="#fafafa", edgecolor="#9aa3ad", zorder=0))
    ax.text(frame.place.x + 6, frame.place.y + 13, frame.title, size=9, weight="bold", zorder=4)


def _draw_box(ax: Axes, box: Box) -> None:
    x, y, width, height = box.place
    ax.add_patch(_rounded(box.place, facecolor=box.tint, edgecolor="#5b6673", zorder=3))
    look: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "zorder": 4,
        "linespacing": 1.15,
        "color": "#222222",
    }
    above, below = len(box.title.splitlines()), len(box.text.splitlines())
    share = above / (above + below)  # of the height, for the title
    ax.text(
        x + width / 2,
        y + share * height / 2 + 1,
        box.title,
        size=9,
        family="DejaVu Sans Mono",
        **look,
    )
    ax.text(x + width / 2, y + (1 + share) * height / 2 - 1, box.text, size=8.8, **look)


def _draw_arrow(ax: Axes, pair: tuple[str, str], colour: str) -> None:
    begin, finish = _ends(*pair)
    arrow = FancyArrowPatch(
        begin,
        finish,
        arrowstyle="-|>,head_length=4,head_width=2",
        shrinkA=0,
        shrinkB=0.5,
        color=colour,
        linewidth=1.0,
        zorder=1 if colour == IMPLIED else 2,
    )
    arrow.set_gid("-".join(("arrow", *pair)))
    ax.add_patch(arrow)


def _ends(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    begin, finish = PLACES[start], PLACES[end]
    is_below, is_above = finish.y >= begin.bottom, begin.y >= finish.bottom
    axis = 0 if is_below or is_above else 1
    leaves, arrives = ROUTES.get((start, end), Route(begin.middle[axis], finish.middle[axis]))
    if is_below:
        return (leaves, begin.bottom), (arrives, finish.y)
    if is_above:
        return (leaves, begin.y), (arrives, finish.bottom)
    if finish.x > begin.x:
        return (begin.right, leaves), (finish.x, arrives)
    return (begin.x, leaves), (finish.right, arrives)
