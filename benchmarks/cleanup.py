"""What comes after the work is done: it may fail, and the work stays."""

import warnings
from collections.abc import Callable


def clean_up(*steps: Callable[[], object]) -> None:
    """Take steps that put things in order; what they raise becomes a warning."""
    for step in steps:
        try:
            step()
        except Exception as error:
            name = getattr(getattr(step, "func", step), "__qualname__", repr(step))
            warnings.warn(
                f"{name} raised {type(error).__name__}: {error}; what was done before it is kept",
                stacklevel=2,
            )
