"""Make `fuzzing`, and the real cluster of the integration tests, importable by the tests here."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "integration")]
