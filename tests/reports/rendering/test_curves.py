"""Learning curves in the page: what they show, and how they answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Drawing

from reports.rendering import figures, html
from reports.rendering.blocks import Figure
from reports.rendering.curves import HEIGHT, WIDTH, Curves
from tests.browser import Page, after, browser_tests

HOSTILE = "</script><!-- <script>alert(1)</script> \u2028 ${x} 'q' \"q\" & <b>"
STEPS = np.linspace(0, 1_000_000, 21)
LABELS = ["npg", "ppo"]
# On CartPole-v1; the script shows four digits of them.
TOPS = {"npg": 480.0, "ppo": 1.5}


def seeds_of(label: str, env_id: str) -> np.ndarray:
    """The returns of five seeds, of shape ``(5, 21)``."""
    rng = np.random.default_rng([*f"{env_id}{label}".encode()])
    return TOPS.get(label, 10.0) * (
        1 - np.exp(-STEPS / 2e5) + 0.05 * rng.normal(size=(5, STEPS.size))
    )


def curves(
    env_ids: Sequence[str] = ("CartPole-v1",),
    labels: Sequence[str] = LABELS,
    seeds: int = 3,
    **options: Any,
) -> Curves:
    """Curves of as many seeds; a single one has no interval."""
    means, runs = [], []
    for env_id in env_ids:
        for label in labels:
            returns = seeds_of(label, env_id)[:seeds]
            mean = returns.mean(axis=0)
            spread = np.ptp(returns, axis=0) if seeds > 1 else np.nan
            shared = {"env_id": env_id, "label": label, "timesteps": STEPS}
            ends = {"mean": mean, "low": mean - spread, "high": mean + spread, "seeds": seeds}
            means.append(pd.DataFrame(shared | ends))
            runs += [
                pd.DataFrame(shared | {"seed": i, "return_mean": run})
                for i, run in enumerate(returns)
            ]
    styles = figures.looks(labels)
    return Curves(pd.concat(means), styles, pd.concat(runs), **options)


def page(tmp_path: Path, *shown: Curves) -> str:
    """A page with a figure of each of these."""
    blocks = [Figure(f"f{i}", "Curves", "Caption.", Drawing, data=d) for i, d in enumerate(shown)]
    return html.page("T", blocks, tmp_path)


def numbers(text: str) -> dict[str, Any]:
    """What the page tells its script."""
    (embedded,) = re.findall(r'<script type="application/json" id="curves">(.*?)</script>', text)
    return json.loads(embedded)


def points(path: str) -> np.ndarray:
    """The points of a path with relative coordinates, of shape ``(n_points, 2)``."""
    found = np.array([int(each) for each in re.findall(r"-?\d+", path)]).reshape(-1, 2)
    return found.cumsum(axis=0)


def test_the_curves_of_sixteen_environments_leave_room_in_a_megabyte(tmp_path: Path) -> None:
    env_ids = [f"Environment{i}-v5" for i in range(16)]
    labels = ["npg", "trpo", "ppo", "a2c", "acer", "acktr", "nac"]
    of_all = curves(env_ids, labels, seeds=5)
    # As in a report: all of them in a figure, and each by itself.
    text = page(tmp_path, of_all, *(curves([env_id], labels, seeds=5) for env_id in env_ids))
    assert len(numbers(text)["panels"]) == 16
    assert len(text) < 400_000


def test_lines_and_bands_lie_where_the_axes_say(tmp_path: Path) -> None:
    shown = curves()
    text = page(tmp_path, shown)
    (panel,) = numbers(text)["panels"]
    left, top, right, bottom = panel["box"]
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT
    drawn = Page(text).all("path")
    for label, path, band in zip(
        LABELS,
        [each["d"] for each in drawn if each.get("class") == "line"],
        [each["d"] for each in drawn if each.get("class") == "band"],
        strict=False,
    ):
        rows = shown.means[shown.means["label"] == label]
        x, y = points(path).T
        for found, at, ends, values in [
            (x, (left, right), panel["x"], rows["timesteps"]),
            (y, (bottom, top), panel["y"], rows["mean"]),
        ]:
            read = ends[0] + (found - at[0]) / (at[1] - at[0]) * (ends[1] - ends[0])
            assert read == pytest.approx(values, abs=(ends[1] - ends[0]) / 1000)
        edge = points(band.removesuffix("z"))
        assert len(edge) == 2 * len(rows)
        assert (edge[: len(rows), 1] <= y).all()
        assert (edge[: len(rows) - 1 : -1, 1] >= y).all()


def test_labels_look_as_in_the_figures_and_ticks_have_their_texts(tmp_path: Path) -> None:
    text = page(tmp_path, curves())
    groups = [each for each in Page(text).all("g") if "data-label" in each]
    styles = figures.looks(LABELS)
    assert [group["color"] for group in groups] == [styles[label].colour for label in LABELS]
    lines = [each for each in Page(text).all("path") if each.get("class") == "line"]
    assert [("stroke-dasharray" in line) for line in lines[:2]] == [False, True]
    texts = [each["text"] for each in Page(text).all("text")]
    assert {"0", "200k", "1M", "environment steps", "evaluation return"} <= set(texts)
    assert "npg, 3 seeds" in [item["text"] for item in Page(text).all("li")]


def test_each_label_has_its_colour_where_environments_have_other_labels(tmp_path: Path) -> None:
    both = curves(["A-v0", "Bc-v0"])
    means = both.means[(both.means["env_id"] == "Bc-v0") | (both.means["label"] == "ppo")]
    found = numbers(page(tmp_path, Curves(means, both.styles)))
    assert [label for label, _ in found["labels"]] == ["ppo", "npg"]
    assert dict(found["labels"]) == {name: both.styles[name].colour for name in LABELS}


def test_a_panel_of_several_figures_is_drawn_once(tmp_path: Path) -> None:
    both, one = curves(["A-v0", "Bc-v0"]), curves(["A-v0"])
    text = page(tmp_path, both, one, one)
    assert len(numbers(text)["panels"]) == 2
    assert [each["href"] for each in Page(text).all("use", inside="figure")].count("#panel:0") == 2
    ids = [
        element["id"]
        for tag in ("g", "h1", "script")
        for element in Page(text).all(tag, None)
        if "id" in element
    ]
    assert len(ids) == len(set(ids))


def test_a_single_seed_has_no_band_and_numbers_that_are_not_finite_are_left_out(
    tmp_path: Path,
) -> None:
    shown = curves(seeds=1)
    shown.means.loc[shown.means["timesteps"] == 50_000, "mean"] = np.nan
    shown.means.loc[shown.means["label"] == "ppo", "mean"] = np.nan
    text = page(tmp_path, shown)
    assert not [each for each in Page(text).all("path") if each.get("class") == "band"]
    first = numbers(text)["panels"][0]["curves"][0]
    assert first["mean"][1] is None
    assert first["low"] == [None] * 21
    assert len([each for each in Page(text).all("path") if each.get("class") == "line"]) == 3
    assert first["seeds"] == 1
    assert "95% interval" not in text


def test_axes_have_a_width_where_all_values_are_the_same(tmp_path: Path) -> None:
    shown = curves()
    for name in ("mean", "low", "high"):
        shown.means[name] = 0.0
    assert shown.runs is not None
    shown.runs["return_mean"] = 0.0
    low, high = numbers(page(tmp_path, shown))["panels"][0]["y"]
    assert low < 0 < high


def test_names_are_data(tmp_path: Path) -> None:
    shown = curves([HOSTILE], [HOSTILE, "npg"])
    text = page(tmp_path, shown)
    assert len(Page(text).all("script")) == 3
    assert not Page(text).all("b")
    visible = HOSTILE.replace("\u2028", " ")
    assert visible in [label for label, _ in numbers(text)["labels"]]
    assert visible in [each["text"] for each in Page(text).all("p")]
    embedded = text.partition('id="curves">')[2].partition("</script>")[0]
    assert not set("<>&\u2028") & set(embedded)
    assert embedded.isascii()


def test_a_page_without_curves_has_no_script_for_them(tmp_path: Path) -> None:
    assert len(Page(html.page("T", [], tmp_path)).all("script")) == 1


def test_a_page_of_many_panels_is_small(tmp_path: Path) -> None:
    """Of 16 environments, each in the summary, in a figure of its own, and against time."""
    labels = ["a2c", "acer", "acktr", "nac", "npg", "ppo", "trpo"]
    env_ids = [f"Environment{'x' * i}-v0" for i in range(16)]
    every = curves(env_ids, labels)
    singles = [curves([env_id], labels) for env_id in env_ids]
    against_time = curves(env_ids, labels, x_labels=dict.fromkeys(env_ids, "training time"))
    size = len(page(tmp_path, every, *singles, against_time).encode())
    assert 200_000 < size < 500_000


# Moves the mouse over a panel, to a share of the width between the ends of its x axis.
MOVE = """
const svgs = document.querySelectorAll("svg[data-panel]");
function move(i, share, type = "pointermove", pointerType = "mouse") {
  const box = numbers.panels[svgs[i].dataset.panel].box;
  const { left, width } = svgs[i].getBoundingClientRect();
  const x = left + (box[0] + share * (box[2] - box[0])) / svgs[i].viewBox.baseVal.width * width;
  svgs[i].dispatchEvent(new PointerEvent(type, { clientX: x, bubbles: true, pointerType }));
}
const numbers = JSON.parse(document.getElementById("curves").textContent);
const buttons = document.querySelectorAll(".legend button");
"""


def tips(page: Page) -> list[list[str]]:
    """The heading and the cells of the numbers of each panel that shows them."""
    found = []
    for each, (name, attributes) in enumerate(page.elements):
        if name == "div" and attributes.get("class") == "tip" and "hidden" not in attributes:
            children = [i for i in range(each, len(page.elements)) if each in page._above(i)]
            texts = [i for i in children if page.elements[i][0] in ("div", "td")]
            found.append(["".join(page.texts[i]) for i in texts if page.texts[i]])
    return found


def shown_text(value: float) -> str:
    """As the script writes a number between 1 and 1,000."""
    return f"{value:#.4g}"


def expected_tip(shown: Curves, position: int, labels: Sequence[str] = LABELS) -> list[str]:
    """What stands beside the guide at the point of that position."""
    texts = [f"environment steps: {STEPS[position]:,.0f}"]
    for label in labels:
        row = shown.means[shown.means["label"] == label].iloc[position]
        low, high = shown_text(row["low"]), shown_text(row["high"])
        texts += [label, shown_text(row["mean"]), f"[{low}, {high}]", "3 seeds"]
    return texts


@browser_tests
def test_the_mouse_shows_the_nearest_points(chromium: str, tmp_path: Path) -> None:
    shown = curves()
    text = page(tmp_path, shown)
    opened = after(chromium, tmp_path, text, MOVE + "move(0, 0.5);")
    assert tips(opened) == [expected_tip(shown, 10)]
    guides = opened.all("circle")
    assert len(guides) == 2
    # The guide is at the middle of the axes.
    (panel,) = numbers(text)["panels"]
    assert float(guides[0]["cx"]) == pytest.approx((panel["box"][0] + panel["box"][2]) / 2)
    left = after(chromium, tmp_path, text, MOVE + "move(0, 0.5); move(0, 0.5, 'pointerleave');")
    assert tips(left) == []
    assert not left.all("circle")


@browser_tests
def test_a_finger_that_is_lifted_leaves_the_numbers(chromium: str, tmp_path: Path) -> None:
    shown = curves(["A-v0", "Bc-v0"])
    touch = "move({}, 0.26, '{}', 'touch');"
    script = MOVE + touch.format(0, "pointerdown") + touch.format(0, "pointerleave")
    once = after(chromium, tmp_path, page(tmp_path, shown), script)
    first = Curves(shown.means[shown.means["env_id"] == "A-v0"], shown.styles)
    assert tips(once) == [expected_tip(first, 5)]
    # Another touch elsewhere takes them away.
    script += touch.format(1, "pointerdown")
    second = Curves(shown.means[shown.means["env_id"] == "Bc-v0"], shown.styles)
    assert tips(after(chromium, tmp_path, page(tmp_path, shown), script)) == [
        expected_tip(second, 5)
    ]


@browser_tests
def test_arrow_keys_go_from_point_to_point(chromium: str, tmp_path: Path) -> None:
    shown = curves()
    keys = ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"]
    script = MOVE + f"for (const key of {json.dumps(keys)}) svgs[0].dispatchEvent("
    script += "new KeyboardEvent('keydown', { key, bubbles: true }));"
    opened = after(chromium, tmp_path, page(tmp_path, shown), script)
    assert tips(opened) == [expected_tip(shown, 1)]


@browser_tests
def test_a_label_is_switched_off_everywhere(chromium: str, tmp_path: Path) -> None:
    shown = curves()
    text = page(tmp_path, shown, shown)
    assert not Page(text).all("button")  # without the script they would do nothing
    opened = after(chromium, tmp_path, text, MOVE + "buttons[1].click(); move(1, 0.5);")
    states = [(b["text"], b["aria-pressed"]) for b in opened.all("button", inside="figure")]
    once = [("npg, 3 seeds", "true"), ("ppo, 3 seeds", "false"), ("Single seeds", "false")]
    assert states == once * 2
    groups = [each for each in opened.all("g") if "data-label" in each]
    assert ["none" in group.get("style", "") for group in groups] == [False, True]
    assert tips(opened) == [expected_tip(shown, 10, ["npg"])]
    again = after(chromium, tmp_path, text, MOVE + "buttons[1].click(); buttons[4].click();")
    assert {b["aria-pressed"] for b in again.all("button")[:2]} == {"true"}


@browser_tests
def test_single_seeds_are_shown_on_demand(chromium: str, tmp_path: Path) -> None:
    shown = curves()
    text = page(tmp_path, shown)
    assert not [each for each in Page(text).all("g") if each.get("class") == "seeds"]
    opened = after(chromium, tmp_path, text, MOVE + "buttons[2].click();")
    (panel,) = numbers(text)["panels"]
    thin = [each for each in opened.all("g") if each.get("class") == "seeds"]
    assert ["none" in each.get("style", "") for each in thin] == [False, False]
    (_, top, _, bottom), (low, high) = panel["box"], panel["y"]
    paths = [each["d"] for each in opened.all("path") if "class" not in each]
    assert len(paths) == 6
    for path, returns in zip(paths[:3], seeds_of("npg", "CartPole-v1")[:3], strict=True):
        y = np.array(re.findall(r"\d+", path), dtype=float).reshape(-1, 2)[:, 1]
        read = low + (bottom - y) / (bottom - top) * (high - low)
        assert read == pytest.approx(returns, abs=(high - low) / 1000)
    off = after(chromium, tmp_path, text, MOVE + "buttons[2].click(); buttons[2].click();")
    thin = [each for each in off.all("g") if each.get("class") == "seeds"]
    assert ["none" in each.get("style", "") for each in thin] == [True, True]


@browser_tests
def test_hostile_names_are_shown_and_do_nothing(chromium: str, tmp_path: Path) -> None:
    shown = curves([HOSTILE], [HOSTILE, "npg"])
    script = "window.alert = () => { document.title = 'alerted'; };" + MOVE
    opened = after(
        chromium, tmp_path, page(tmp_path, shown), script + "buttons[2].click(); move(0, 0.5);"
    )
    assert [each["text"] for each in opened.all("title")] == ["T"]
    assert not opened.all("b")
    assert HOSTILE.replace("\u2028", " ") in tips(opened)[0]


@browser_tests
def test_single_seeds_are_shown_from_the_start_where_that_was_asked_for(
    chromium: str, tmp_path: Path
) -> None:
    opened = after(chromium, tmp_path, page(tmp_path, curves(show_runs=True)), MOVE)
    thin = [each for each in opened.all("g") if each.get("class") == "seeds"]
    assert ["none" in each.get("style", "") for each in thin] == [False, False]
    assert opened.all("button")[2]["aria-pressed"] == "true"
