"""`python -m selfaware`: the command line. Knows nothing else."""

from selfaware.cli import main

if __name__ == "__main__":  # a worker imports this file too
    main()
