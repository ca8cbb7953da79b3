"""Run folders in, a report out: scores with intervals, learning curves, how it was made.

``python -m reports build runs/ --out report/``
"""
