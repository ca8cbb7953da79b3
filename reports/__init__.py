"""Run folders in, a report out: scores with intervals, learning curves, how it was made.

``python -m reports build runs/ --out report/``
"""

TITLE = "Benchmark report"
FORMATS = ("md", "html")
"""The formats of a report."""
