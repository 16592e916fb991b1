"""The notebooks' exercises, a module for each notebook.

A new module is added to `lessons/register.py`, to its imports and to NOTEBOOKS; it has all
exercises by name. What the notebook claims stands in data/claims.toml.
"""
