"""Fixtures of all tests: those that users get."""

pytest_plugins = ["mesh.testing.fixtures"]
