"""Measures our speed, beside that of the peers and the limit that the arithmetic sets.

``protocol`` and ``stopwatch`` need Python alone, since they also run in the peers' environment.
"""
