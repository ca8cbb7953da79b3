"""The site: ``make docs`` builds it into site/ with Sphinx, MyST and myst-nb."""

import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jupyter_cache.executors import utils as notebooks  # noqa: E402

from sb3_natural import __version__  # noqa: E402

project = "sb3-natural"
author = "The sb3-natural authors"
copyright = author
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinxcontrib.lightbox2",
    "docs.argument_tables",
    "docs.command_lines",
    "docs.root_pages",
]
exclude_patterns = ["results", "claims", "_templates", "**/__pycache__"]
templates_path = ["_templates"]
nitpicky = True
# What the docstrings name of other projects is not on this site.
nitpick_ignore_regex = [(r"py:.*", r"(?!sb3_natural|benchmarks|studies|reports).*")]
default_role = "code"
smartquotes_action = "qe"  # no dashes: options begin with two hyphens

myst_enable_extensions = ["dollarmath", "amsmath", "tasklist"]
myst_heading_anchors = 4

nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "notebooks")
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_execution_raise_on_error = True
# Output comes in pieces that are cut anywhere; joined as it is, not with line breaks.
notebooks.executenb = partial(notebooks.executenb, coalesce_streams=True)

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "furo"
html_title = "sb3-natural"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False  # there are the reference and the search
html_show_sphinx = False
lightbox2_resize_duration = lightbox2_fade_duration = lightbox2_image_fade_duration = 150
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
