"""Agents: apps, the context a handler works with, and where it records."""
