"""Fixtures of all tests: those that users get."""

import signal

pytest_plugins = ["mesh.testing.fixtures"]

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
