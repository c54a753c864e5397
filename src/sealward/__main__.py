"""`python -m sealward` is the command `sealward`."""

from sealward.cli import main

if __name__ == "__main__":
    main()
