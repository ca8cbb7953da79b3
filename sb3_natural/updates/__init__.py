"""First-order updates, written out."""
