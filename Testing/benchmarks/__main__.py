"""All benchmarks, one after the other: `make bench`. Leave the machine alone meanwhile; each can be run by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = "lung_compact.py", "sam_encoder.py", "sam_volume.py", "batch.py", "large_volumes.py", "corrections.py"

for name in SCRIPTS:
    print(f"\n== {name}\n", flush=True)
    subprocess.run([sys.executable, str(HERE / name)], check=True)
