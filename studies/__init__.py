"""Studies: Optuna tunes the numbers that decide how far an update may go."""
