# Set-up, the same in every lesson. It installs the course where it is missing, as on Colab.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("course_utils") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "{install}"], check=True)

from course_utils import env, records

session = env.start(lesson="{lesson}", profile=PROFILE, seed=SEED, edition="{edition}")
record = records.Recorder(session)
session
