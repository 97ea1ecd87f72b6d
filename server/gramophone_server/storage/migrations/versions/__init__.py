"""The steps, each from the revision before it."""
