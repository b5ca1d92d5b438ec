from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh import loader
from mesh.errors import AppError
from mesh.loader import load, source_digest, top_folder


class App:
    """Stands for the class that a command expects; user modules in these tests import it from here."""


APP = "from tests.test_loader import App\n\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what a test imports from it is forgotten afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    monkeypatch.setitem(sys.modules, "tests.test_loader", sys.modules[__name__])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        module_file = getattr(sys.modules[name], "__file__", None)
        if module_file and Path(module_file).is_relative_to(tmp_path):
            del sys.modules[name]


def write(folder: Path, files: dict[str, str]) -> None:
    """Write sources under `folder`, with the folders they need."""
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def refusal(target: str) -> AppError:
    with pytest.raises(AppError) as caught:
        load(target, App)
    return caught.value


# --- what is found


@pytest.mark.parametrize("target", ["one", "one:app", "one.py", "one.py:app", "./one.py:app", "one.py:"])
def test_a_module_in_the_current_folder_is_found_under_each_of_its_names(folder: Path, target: str) -> None:
    write(folder, {"one.py": APP + "app = App()"})
    assert isinstance(load(target, App), App)


def test_a_file_finds_the_modules_beside_it_from_any_folder(folder: Path) -> None:
    write(folder, {"far/two.py": APP + "import two_parts\napp = App()", "far/two_parts.py": ""})
    assert isinstance(load("far/two.py", App), App)
    assert isinstance(load(str(folder / "far" / "two.py"), App), App)


def test_a_file_inside_a_package_keeps_its_package(folder: Path) -> None:
    write(folder, {"shop/__init__.py": ""})
    write(folder, {"shop/front.py": APP + "from .back import app", "shop/back.py": APP + "app = App()"})
    assert load("shop/front.py", App) is load("shop.front:app", App)
    assert sys.modules["shop.front"].__package__ == "shop"


def test_a_package_can_hold_the_app_in_its_init(folder: Path) -> None:
    write(folder, {"store/__init__.py": APP + "app = App()"})
    assert load("store/__init__.py", App) is load("store", App)


def test_an_attribute_may_be_dotted(folder: Path) -> None:
    write(folder, {"three.py": APP + "class holder:\n    app = App()"})
    assert isinstance(load("three:holder.app", App), App)


# --- mistakes


def test_a_missing_file_is_refused_with_the_nearest_one(folder: Path) -> None:
    write(folder, {"report.py": ""})
    error = refusal("reprot.py")
    assert error.message == "there is no file reprot.py"
    assert error.hint == "did you mean report.py:app?"


def test_a_missing_module_is_refused_with_the_nearest_file(folder: Path) -> None:
    write(folder, {"report.py": ""})
    error = refusal("reports:app")
    assert error.message.startswith(f"there is no module 'reports' in {folder}")
    assert error.hint == "did you mean report.py:app?"
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_a_folder_is_refused_with_the_files_in_it(folder: Path) -> None:
    write(folder, {"agents/report.py": ""})
    assert refusal("./agents").hint == "did you mean agents/report.py:app?"


def test_a_path_without_its_suffix_is_refused_with_the_file(folder: Path) -> None:
    write(folder, {"agents/report.py": ""})
    assert refusal("agents/report:app").hint == "did you mean agents/report.py:app?"


def test_a_module_that_raises_is_shown_by_its_own_last_line(folder: Path) -> None:
    write(folder, {"four.py": "import json\n\njson.loads('{')"})
    error = refusal("four.py")
    assert error.message.startswith("four.py raises while it is imported: JSONDecodeError: ")
    assert error.message.endswith(" at four.py:3")
    assert isinstance(error.__cause__, ValueError)


def test_a_syntax_error_is_shown_where_it_stands_also_in_another_module(folder: Path) -> None:
    write(folder, {"five.py": "import five_parts", "five_parts.py": "x = 1\ndef (:\n"})
    error = refusal("five:app")
    assert "SyntaxError" in error.message
    assert error.message.endswith(" at five_parts.py:2")


def test_a_missing_dependency_is_not_taken_for_a_missing_app(folder: Path) -> None:
    write(folder, {"six.py": "import a_library_nobody_has"})
    error = refusal("six")
    assert "No module named 'a_library_nobody_has' at six.py:1" in error.message
    assert error.hint == f"is it installed in {sys.prefix}?"


def test_an_error_of_our_own_keeps_its_hint_and_points_to_the_line_of_the_user(folder: Path) -> None:
    write(
        folder, {"clause.py": "from mesh.errors import AppError\n\nraise AppError('no such name', hint='take another')"}
    )
    error = refusal("clause.py")
    assert error.message == "clause.py raises while it is imported: AppError: no such name at clause.py:3"
    assert error.hint == "take another"


def test_a_script_that_exits_while_it_is_imported_is_told_how_not_to(folder: Path) -> None:
    write(folder, {"seven.py": "raise SystemExit(3)"})
    error = refusal("seven.py")
    assert "SystemExit: 3 at seven.py:1" in error.message
    assert error.hint is not None
    assert "__main__" in error.hint


def test_a_missing_attribute_is_refused_with_the_apps_of_the_module(folder: Path) -> None:
    write(folder, {"eight.py": APP + "shop = App()\nstore = App()"})
    error = refusal("./eight.py:stor")
    assert error.message == "./eight.py has no attribute 'stor'"
    assert error.hint == "did you mean ./eight.py:store or ./eight.py:shop?"


def test_a_left_out_attribute_is_refused_with_the_app_under_its_real_name(folder: Path) -> None:
    write(folder, {"nine.py": APP + "shop = App()"})
    assert refusal("nine.py").hint == "did you mean nine.py:shop?"


def test_a_module_without_any_app_is_told_how_to_make_one(folder: Path) -> None:
    write(folder, {"ten.py": "x = 1"})
    assert refusal("ten.py").hint == 'it has no App; add: from mesh import App; app = App("ten")'


def test_an_attribute_of_another_kind_is_refused(folder: Path) -> None:
    write(folder, {"eleven.py": APP + "def report(): ...\napp = App()"})
    assert refusal("eleven:report").message == "eleven:report is a function, not a App"
    assert refusal("eleven:App").message == "eleven:App is the class App, not a App"
    assert refusal("eleven:report").hint == "did you mean eleven:app?"


@pytest.mark.parametrize("target", ["app.py:my-app", ":app", ".app:app", "", "shop..app"])
def test_a_target_that_can_name_nothing_is_refused_with_the_two_forms(target: str) -> None:
    error = refusal(target)
    assert error.message == f"{target!r} names no app"
    assert error.hint == "write package.module:app or path/file.py:app"


def test_a_file_named_as_a_loaded_module_is_refused(folder: Path) -> None:
    write(folder, {"json.py": APP + "app = App()"})
    error = refusal("json.py")
    assert error.message.startswith("json.py has the name of another module, ")
    assert error.hint == "rename the file"


# --- names


@pytest.mark.parametrize(
    "name", ["mesh.py", "services.py", "schemas/orders.py", "services/__init__.py", "schemas/v1/orders.py"]
)
def test_a_folder_that_holds_one_of_our_names_is_refused_before_anything_is_imported(folder: Path, name: str) -> None:
    write(folder, {name: "", "app.py": "raise AssertionError"})
    error = refusal("app:app")
    assert error.message.startswith(str(folder / name.partition("/")[0]))
    assert error.hint is not None
    assert "rename it" in error.hint
    assert str(folder) not in sys.path


def test_only_the_folder_of_a_named_file_counts(folder: Path) -> None:
    write(folder, {"services.py": "", "apps/twelve.py": APP + "app = App()"})
    assert isinstance(load("apps/twelve.py", App), App)


def test_a_folder_without_python_files_is_no_clash(folder: Path) -> None:
    (folder / "schemas").mkdir()
    (folder / "schemas" / "order.json").touch()
    write(folder, {"thirteen.py": APP + "app = App()"})
    assert isinstance(load("thirteen", App), App)


def test_a_clash_on_the_module_path_is_refused(folder: Path) -> None:
    write(folder, {"other/services.py": "", "apps/app.py": ""})
    sys.path.append(str(folder / "other"))
    error = refusal("apps/app.py")
    assert error.message.startswith(str(folder / "other" / "services.py"))
    assert error.hint is not None
    assert "virtual environment" in error.hint


def test_a_file_of_another_distribution_in_our_package_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = folder / "site"
    for name in loader.OWN_PACKAGES:
        write(site, {f"{name}/own.py": "", f"{name}/inner/own.py": ""})
    files = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.py"))
    record = site / "nats_agent_mesh-0.1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("".join(f"{file},sha256=x,0\n" for file in files))
    monkeypatch.setattr(loader, "OWN_ROOT", site)
    assert loader._foreign_source() is None
    write(site, {"services/billing.py": ""})
    assert loader._foreign_source() == site / "services" / "billing.py"


def test_a_checkout_of_this_project_is_no_clash_and_what_is_installed_wins(folder: Path) -> None:
    write(
        folder, {"pyproject.toml": '[project]\nname = "nats-agent-mesh"\n', "mesh/__init__.py": "raise AssertionError"}
    )
    write(folder, {"services/__init__.py": "raise AssertionError", "fourteen.py": APP + "import mesh\napp = App()"})
    assert isinstance(load("fourteen.py", App), App)
    assert Path(sys.modules["fourteen"].mesh.__file__).parent == loader.OWN_ROOT / "mesh"


def test_the_checkout_of_another_project_is_a_clash(folder: Path) -> None:
    write(folder, {"pyproject.toml": '[project]\nname = "shop"\n', "mesh/__init__.py": "", "app.py": ""})
    assert refusal("app.py").message.startswith(str(folder / "mesh"))


def test_this_project_does_not_clash_with_itself() -> None:
    loader.check_names(loader.OWN_ROOT)


# --- version


def digest(file: Path) -> str:
    return source_digest(file, top_folder(file))


def test_the_digest_follows_what_the_app_imports_and_nothing_else(folder: Path) -> None:
    write(folder, {"app.py": "def late():\n    import near", "near.py": "import far", "far.py": "", "unrelated.py": ""})
    write(folder, {"test_app.py": "import app"})
    first = digest(folder / "app.py")
    assert len(first) == 12
    write(folder, {"unrelated.py": "x = 1", "test_app.py": "x = 1"})
    assert digest(folder / "app.py") == first
    write(folder, {"far.py": "x = 1"})
    assert digest(folder / "app.py") != first


def test_the_digest_of_a_packaged_app_covers_the_whole_package(folder: Path) -> None:
    write(folder, {"shop/__init__.py": ""})
    write(folder, {"shop/app.py": "", "shop/deep/part.py": "", "shop/.venv/lib.py": ""})
    first = digest(folder / "shop" / "app.py")
    write(folder, {"shop/.venv/lib.py": "x = 1"})
    assert digest(folder / "shop" / "app.py") == first
    write(folder, {"shop/deep/part.py": "x = 1"})
    assert digest(folder / "shop" / "app.py") != first


def test_the_digest_is_the_same_in_another_folder_and_differs_for_a_moved_line(folder: Path) -> None:
    for place in ("here", "there"):
        write(folder, {f"{place}/app.py": "import part", f"{place}/part.py": "x = 1"})
    assert digest(folder / "here" / "app.py") == digest(folder / "there" / "app.py")
    write(folder, {"there/app.py": "import part\nx = 1", "there/part.py": ""})
    assert digest(folder / "here" / "app.py") != digest(folder / "there" / "app.py")


def test_a_file_that_does_not_parse_still_counts(folder: Path) -> None:
    write(folder, {"app.py": "import broken", "broken.py": "def ("})
    first = digest(folder / "app.py")
    write(folder, {"broken.py": "def (("})
    assert digest(folder / "app.py") != first
