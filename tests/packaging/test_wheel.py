"""The wheel as a user gets it: built, installed into a clean environment, started from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"mesh", "services", "schemas"}
SERVICES = ["executor", "router", "session-store", "tool-runner"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "MESH_"))}


def output(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=CLEAN, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    output(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel and, to save their download, sees our dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    # A plain path entry: the `.pth` files there, and with them this checkout, are not followed.
    Path(paths["purelib"], "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    scripts = Path(paths["scripts"])
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python", "install", "-q", "--no-deps", "--no-index")
    output(*pip, "--ignore-installed", wheel, cwd=folder)
    return scripts


def test_the_wheel_holds_exactly_our_packages_and_marks_each_as_typed(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == PACKAGES | {"nats_agent_mesh-0.1.0.dist-info"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {f"{package}/__init__.py" for package in PACKAGES} <= set(names)


def test_the_wheel_names_the_command_and_the_services(wheel: Path) -> None:
    entry_points = ConfigParser()
    entry_points.read_string(ZipFile(wheel).read("nats_agent_mesh-0.1.0.dist-info/entry_points.txt").decode())
    assert dict(entry_points["console_scripts"]) == {"mesh": "mesh.cli:main"}
    assert dict(entry_points["mesh.services"]) == {
        "executor": "services.executor:service",
        "router": "services.router:service",
        "session-store": "services.session_store:service",
        "tool-runner": "services.tool_runner:service",
    }


def test_every_service_that_is_named_can_be_loaded(environment: Path) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        "for point in sorted(entry_points(group='mesh.services')): point.load(); print(point.name)"
    )
    assert output(environment / "python", "-c", code, cwd=environment).split() == SERVICES


def test_the_packages_are_imported_from_the_environment(environment: Path) -> None:
    code = "import mesh, services, schemas\nfor module in (mesh, services, schemas): print(module.__file__)"
    files = output(environment / "python", "-c", code, cwd=environment).splitlines()
    assert [file for file in files if not Path(file).is_relative_to(environment.parent)] == []


def test_the_command_tells_its_version(environment: Path) -> None:
    assert "0.1.0" in output(environment / "mesh", "--version", cwd=environment)
