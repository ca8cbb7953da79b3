"""Studies: Optuna tunes the numbers that decide how far an update may go."""

STORAGE_VARIABLE = "STUDIES_STORAGE"
"""The environment variable with the URL of the studies' database."""
