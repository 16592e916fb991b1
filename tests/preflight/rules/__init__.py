"""A package, because a test module here may be called as one beside it."""
