"""The measuring instrument: how fast we are, beside the peers and the arithmetic limit.

``protocol`` and ``stopwatch`` need Python alone, since they also run in the peers' environment.
"""
