"""The notebooks' exercises, a module for each notebook."""
