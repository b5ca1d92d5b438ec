"""Loading the app that a command names, and the digest that tells one version of it from another.

The user's folder goes to the front of the module path, as with `python app.py`. Our packages have plain names
(`mesh`, `services`, `schemas`), so this module first makes sure that no folder on that path has one of them. Our own
source tree is no clash: what runs is imported by then, and the folder cannot hide it any more.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import operator
import os
import sys
import tomllib
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

from mesh.errors import AppError, MeshError

DISTRIBUTION = "nats-agent-mesh"
OWN_PACKAGES = ("mesh", "services", "schemas")
OWN_ROOT = Path(__file__).resolve().parent.parent

T = TypeVar("T")


class Target(NamedTuple):
    """What to import, from which folder; `file` is set if the user named one."""

    text: str
    folder: Path
    module: str
    attribute: str
    file: Path | None

    def with_attribute(self, attribute: str) -> str:
        """The same target as the user would type it for another attribute."""
        return f"{self.text}:{attribute}"


def load(target: str, expected: type[T]) -> T:
    """Import `package.module:app` or `path/file.py:app` and return the app.

    Without `:app` the attribute is `app`. A module is looked for from the current folder, a file from its own folder,
    or, if that belongs to a package, from the folder above the package, so that its relative imports work.

    Raises: `AppError`, with what to change in its hint; the user's own exception is its `__cause__`.
    """
    parsed = _parse(target)
    check_names(parsed.folder)
    if str(parsed.folder) not in sys.path:
        sys.path.insert(0, str(parsed.folder))
    return _attribute(_import(parsed), parsed, expected)


def sources(target: str) -> tuple[Path, Path]:
    """The file and the folder of a target that has been loaded, as `source_digest` wants them."""
    parsed = _parse(target)
    file = Path(sys.modules[parsed.module].__file__ or "").resolve()
    return file, parsed.folder if file.is_relative_to(parsed.folder) else top_folder(file)


# --- names


def check_names(folder: Path) -> None:
    """Import our packages before `folder` can hide them; stop if anybody else has one of their names.

    It looks at paths only, never at the metadata of all distributions, because every command that loads an app waits
    for it.

    Raises: `AppError` that says what clashes; nothing has been imported from `folder` yet.
    """
    others = {Path(entry).resolve() for entry in sys.path} - {OWN_ROOT, folder.resolve()}
    for name in OWN_PACKAGES:
        origin = next(iter(importlib.import_module(name).__path__), "")
        if Path(origin).resolve() != OWN_ROOT / name:
            raise _clash(Path(origin), name)
        if folder.resolve() != OWN_ROOT and (path := _clashing(folder, name)):
            raise AppError(
                f"{path} has the name of a package of {DISTRIBUTION}, so one would hide the other",
                hint=f"rename it, or move the app to a folder without a {path.name!r} and name it path/to/file.py:app",
            )
        for other in others:
            if path := _clashing(other, name):
                raise _clash(path, name)
    if path := _foreign_source():
        raise _clash(path, path.relative_to(OWN_ROOT).parts[0])


def _clashing(folder: Path, name: str) -> Path | None:
    path = _importable(folder, name)
    return None if path is None or _is_our_source(folder) else path


def _is_our_source(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return False
    return isinstance(project, dict) and project.get("name") == DISTRIBUTION


def _importable(folder: Path, name: str) -> Path | None:
    """What `import name` would find in `folder`; a folder without Python files is only a folder."""
    file, package = folder / f"{name}.py", folder / name
    if file.is_file():
        return file
    if package.is_dir() and any(next(package.glob(pattern), None) for pattern in ("*.py", "*/*.py")):
        return package
    return None


def _foreign_source() -> Path | None:
    """A file that another distribution installed into one of our packages, which pip allows without a word."""
    record = next(OWN_ROOT.glob(f"{DISTRIBUTION.replace('-', '_')}-*.dist-info/RECORD"), None)
    if record is None:  # a checkout
        return None
    ours = {line.split(",", 1)[0] for line in record.read_text(encoding="utf-8").splitlines()}
    ours |= {path.rpartition("/")[0] for path in ours}
    for name in OWN_PACKAGES:
        for path in (OWN_ROOT / name).iterdir():
            source = path.suffix == ".py" or (path.is_dir() and path.name.isidentifier() and path.name != "__pycache__")
            if source and f"{name}/{path.name}" not in ours:
                return path
    return None


def _clash(path: Path, name: str) -> AppError:
    from importlib.metadata import packages_distributions  # slow, and needed for this message only

    owners = " and ".join(sorted(set(packages_distributions().get(name, ())) - {DISTRIBUTION}))
    origin = f", it comes from {owners}" if owners else ""
    cure = f"uninstall {owners}" if owners else "take it off the module path"
    return AppError(
        f"{path} is in the way: {name!r} is a package of {DISTRIBUTION}{origin}",
        hint=f"{cure}, or install {DISTRIBUTION} into a virtual environment of its own",
    )


# --- target


def _parse(target: str) -> Target:
    text, colon, attribute = target.rpartition(":")
    if not colon or attribute.startswith(("/", "\\")):  # the colon of a Windows drive
        text, attribute = target, ""
    attribute = attribute or "app"
    is_path = text.endswith(".py") or "/" in text or os.sep in text
    if not all(part.isidentifier() for part in attribute.split(".")) or not (is_path or all(text.split("."))):
        raise AppError(f"{target!r} names no app", hint="write package.module:app or path/file.py:app")
    if not is_path:
        return Target(text, Path.cwd(), text, attribute, None)
    file = Path(text).resolve()
    if not file.is_file():
        raise AppError(f"there is no file {text}", hint=_near_files(file, attribute))
    folder = top_folder(file)
    module = ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
    if "." in file.stem or file.suffix != ".py":
        raise AppError(f"{text} cannot be imported as a module", hint="give a .py file with no other dot in its name")
    return Target(text, folder, module, attribute, file)


def top_folder(file: Path) -> Path:
    """The folder from which `file` is imported: the first one above it that is not a package."""
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _near_files(file: Path, attribute: str) -> str:
    """A hint with the Python files that the user may have meant."""
    inside = file.is_dir()
    folder = file if inside else file.parent
    names = sorted(path.name for path in folder.glob("*.py"))
    near = names if inside else difflib.get_close_matches(f"{file.stem}.py", names, n=3)
    if not near:
        return f"looked for {file}"
    return "did you mean " + " or ".join(f"{_shown(folder / name)}:{attribute}" for name in near[:3]) + "?"


def _shown(path: Path) -> Path:
    """As short as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


# --- import


def _import(target: Target) -> ModuleType:
    try:
        module = importlib.import_module(target.module)
    except ModuleNotFoundError as error:
        if error.name and f"{target.module}.".startswith(f"{error.name}."):
            raise _no_module(target) from error
        raise _import_failed(target, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(target, error) from error
    if target.file and Path(module.__file__ or "").resolve() != target.file:
        raise AppError(
            f"{target.text} has the name of another module, {module.__file__ or 'built into Python'}",
            hint="rename the file",
        )
    return module


def _no_module(target: Target) -> AppError:
    guess = target.folder / Path(*target.module.split(".")).with_suffix(".py")
    return AppError(
        f"there is no module {target.module!r} in {target.folder} or among the installed packages",
        hint=_near_files(guess, target.attribute),
    )


def _import_failed(target: Target, error: BaseException) -> AppError:
    place, text, hint = _place(error, target.folder), str(error), None
    if isinstance(error, SyntaxError):
        place, text = f"{_shown(Path(error.filename or target.text))}:{error.lineno}", error.msg
    elif isinstance(error, MeshError):
        text, hint = error.message, error.hint
    elif isinstance(error, ModuleNotFoundError):
        hint = f"is it installed in {sys.prefix}?"
    elif isinstance(error, SystemExit):
        hint = "put what runs the program under: if __name__ == '__main__':"
    what = f"{type(error).__name__}: {text.strip().partition(chr(10))[0]}".removesuffix(": ")
    return AppError(f"{target.text} raises while it is imported: {what} at {place}", hint=hint)


def _place(error: BaseException, folder: Path) -> str:
    """The innermost line of the user's own code, else the innermost line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    own = [frame for frame in own if "site-packages" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{_shown(Path(frame.filename))}:{frame.lineno}"


# --- attribute


def _attribute(module: ModuleType, target: Target, expected: type[T]) -> T:
    try:
        found = operator.attrgetter(target.attribute)(module)
    except AttributeError as error:
        message = f"{target.text} has no attribute {target.attribute!r}"
        raise AppError(message, hint=_near_attributes(module, target, expected)) from error
    if isinstance(found, expected):
        return found
    kind = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
    message = f"{target.with_attribute(target.attribute)} is {kind}, not a {expected.__name__}"
    raise AppError(message, hint=_near_attributes(module, target, expected))


def _near_attributes(module: ModuleType, target: Target, expected: type[T]) -> str:
    apps = [name for name, value in vars(module).items() if isinstance(value, expected)]
    apps.sort(key=lambda name: -difflib.SequenceMatcher(None, name, target.attribute).ratio())
    if apps:
        return "did you mean " + " or ".join(target.with_attribute(name) for name in apps) + "?"
    if near := difflib.get_close_matches(target.attribute, vars(module), n=1):
        return f"it has no {expected.__name__}; the nearest name is {near[0]!r}"
    kind, name = expected.__name__, module.__name__.rpartition(".")[2]
    return f'it has no {kind}; add: from mesh import {kind}; {target.attribute} = {kind}("{name}")'


# --- version


def source_digest(module_file: Path, top: Path) -> str:
    """Twelve hex digits that change when the sources of an app do.

    The sources are what lies directly in `top` (see `top_folder`) and is reached from the module by import statements,
    at any depth of the code: single files, and packages with all their `.py` files. They are read, not run, so every
    process finds the same. Installed packages and modules imported by a computed name do not count; an app that
    depends on those gives its own `version`.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(module_file.resolve(), top.resolve())):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(top.resolve()).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def _reached(module_file: Path, top: Path) -> set[Path]:
    waiting = [top / module_file.relative_to(top).parts[0]]
    seen: set[Path] = set()
    while waiting:
        for path in _python_files(waiting.pop()):
            if path not in seen:
                seen.add(path)
                waiting += [found for name in _imported_names(path) if (found := _importable(top, name))]
    return seen


def _python_files(path: Path) -> Iterator[Path]:
    if path.suffix == ".py":
        yield path
    elif path.is_dir() and path.name.isidentifier():  # no module lies in .venv, site-packages, python3.12
        for child in path.iterdir():
            yield from _python_files(child)


def _imported_names(path: Path) -> set[str]:
    """The top-level names that a file imports; none if it does not parse, which the import itself will tell."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
