"""Reads the logs of training programs, one module for each format."""
