"""Hostile input: README.md of this folder says what is tried and how to run it."""
