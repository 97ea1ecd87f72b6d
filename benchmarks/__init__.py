"""`make bench`: what is promised in numbers, measured."""
