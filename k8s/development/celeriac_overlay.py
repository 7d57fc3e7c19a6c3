"""Lets `skaffold dev` replace single files: copies the installed packages to /app, which comes first on PYTHONPATH.

Only images built with DEVELOPMENT=1 have it, and it does something only where /app can be written to, that is on the
volume of k8s/values/development.yaml. It runs at each start of Python, before anything else is imported.
"""

import os
import shutil
from pathlib import Path

SOURCE = Path("/app")

for installed in map(Path(__file__).with_name, ("celeriac", "celeriac_api", "workloads")):
    target = SOURCE / installed.name
    if installed.is_dir() and not target.exists() and os.access(SOURCE, os.W_OK):
        draft = SOURCE / f".{installed.name}-{os.getpid()}"
        shutil.copytree(installed, draft)
        draft.rename(target)
