"""`python -m celeriac`."""

from celeriac.cli import main

main()
