"""The notebooks' exercises, a module for each notebook.

A new module is added to the list in `lessons/register.py`, which has all exercises by name.
"""
