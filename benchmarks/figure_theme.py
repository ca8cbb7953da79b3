"""How every figure looks: a title at the left, a light grid, no box around it."""

from typing import Any

THEME: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
    # The same input gives the same bytes: identifiers inside an SVG are hashed with this.
    "svg.hashsalt": "sb3-natural",
    # A name may have dollar signs, between which there is no formula.
    "text.parse_math": False,
}
