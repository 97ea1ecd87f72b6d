"""The migrations, each from the previous revision."""
