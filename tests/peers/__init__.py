"""What needs packages that clash with those of ``make test``: run by ``make test-peers``."""
