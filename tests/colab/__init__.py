"""A package, so that the tests can name what their conftest.py defines."""
