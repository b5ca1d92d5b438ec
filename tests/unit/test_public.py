"""Users import from `mesh`: these names, and nothing else by accident."""

from __future__ import annotations

import importlib
import inspect

import pytest

import mesh
from mesh import errors


@pytest.mark.parametrize("name", mesh.__all__)
def test_every_public_name_can_be_imported_and_is_described(name: str) -> None:
    thing = getattr(mesh, name)
    assert inspect.getdoc(thing)


def test_the_public_names_are_sorted_and_are_all_that_dir_shows() -> None:
    assert sorted(mesh.__all__) == mesh.__all__ == dir(mesh)


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        mesh.Nothing  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("mesh.Nothing")


def test_every_error_has_a_code_and_is_a_mesh_error() -> None:
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, Exception):
            assert issubclass(error, errors.MeshError), name
            assert error.code


def test_the_tree_of_errors_in_the_docstring_names_every_error() -> None:
    drawn = errors.__doc__ or ""
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.MeshError):
            assert name in drawn, f"{name} is missing from the tree in mesh/errors.py"
