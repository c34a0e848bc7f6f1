# Set-up, the same in every lesson. It installs what is missing, as on Colab, and replaces neither torch nor NumPy.
import importlib
import subprocess
import sys

try:
    from course_utils import installing
except ImportError:  # the course is not here, or only half of it
    fetch = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall"]
    if subprocess.run([*fetch, "course_utils @ git+{address}@{ref}"]).returncode:
        raise RuntimeError("The course was not fetched: pip says why above. Run this cell again.") from None
    importlib.invalidate_caches()
    from course_utils import installing

installing.complete("{extras}")

from course_utils import env, records

session = env.start(lesson="{lesson}", profile=PROFILE, seed=SEED, edition="{edition}")
record = records.Recorder(session)
session
