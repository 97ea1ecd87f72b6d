import sys
from pathlib import Path

# The examples are scripts: they find each other because Python puts their folder on its path.
sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))
