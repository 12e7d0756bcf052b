"""`python -m selfaware`: the command line. Knows nothing else."""

from selfaware.cli import main

main()
