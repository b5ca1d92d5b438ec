"""`python -m mesh`: the `mesh` command."""

from mesh.cli import main

main()
