"""`python -m ramda_cli` is `ramda`."""

from ramda_cli.cli.app import main

if __name__ == "__main__":
    main()
