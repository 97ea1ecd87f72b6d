"""Lets tests import the examples."""

import sys
from pathlib import Path

# The examples are scripts that import each other: Python puts the folder of a script on its path.
sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
