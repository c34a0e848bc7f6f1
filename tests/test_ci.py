""".ci/run: a Chromium where apt is usable, a clear line where it is not, and then the README's own command."""

import shutil
import subprocess

import pytest

TOOLS = ("bash", "dirname", "echo", "cat")


@pytest.fixture()
def ci(root, tmp_path):
    """Run it in a copy, with programs that only note how they were called; returns exit status, calls and words."""
    (tmp_path / "course" / ".ci").mkdir(parents=True)
    shutil.copy(root / ".ci" / "run", tmp_path / "course" / ".ci")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(shutil.which(name))

    def run(**given):
        for name, status in ({"make": 0} | given).items():
            said = "0" if name == "id" else ""
            body = f'echo "{name} $*" >> "{tmp_path}/calls"\necho "{said}"\nexit {status}\n'
            (programs / name).write_text(f"#!{shutil.which('bash')}\n{body}")
            (programs / name).chmod(0o755)
        result = subprocess.run(
            [tmp_path / "course" / ".ci" / "run"],
            env={"PATH": str(programs)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        return result.returncode, (tmp_path / "calls").read_text().splitlines(), result.stdout + result.stderr

    return run


def test_a_browser_that_is_there_is_left_alone(ci):
    status, calls, said = ci(chromium=0, id=0, **{"apt-get": 0})
    assert (status, calls, said.strip()) == (0, ["make test"], "")


def test_root_installs_one(ci):
    status, calls, said = ci(id=0, **{"apt-get": 0})
    assert status == 0 and calls[1:] == ["apt-get update -qq", "apt-get install -yqq chromium", "make test"]


def test_without_apt_it_says_so_and_goes_on(ci):
    status, calls, said = ci(id=0, make=3)
    assert status == 3 and calls[-1] == "make test"
    assert "No Chromium here, and apt cannot install it: the tests in a browser will be skipped." in said


def test_without_root_it_asks_sudo_for_no_password(ci):
    status, calls, said = ci(sudo=1)
    assert calls[0] == "sudo -n apt-get update -qq" and calls[-1] == "make test"
    assert "will be skipped" in said
