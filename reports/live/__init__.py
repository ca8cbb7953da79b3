"""Beside the report: learning curves while a sweep is running, and films of trained agents."""

EVERY = 5.0
"""Seconds between two looks at the runs."""
SECONDS = 10.0
"""Length of a film."""
# A GIF counts in hundredths of a second, so that 25 frames a second are exact and 30 are not.
FPS = 25
"""Frames a second."""
