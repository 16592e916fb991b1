"""The notebooks' exercises, a module for each notebook; `lessons/register.py` has them all by name."""
