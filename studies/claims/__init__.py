"""What is said of natural gradients and trust regions, put to the test."""
