"""selfaware: does a language model know what it has been trained to do, how little training does it take, and by what mechanism?"""

__version__ = "0.1.0"
