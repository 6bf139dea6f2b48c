"""`python -m dlgsum` is the `dlgsum` command."""

from dlgsum.cli.app import main

if __name__ == "__main__":
    main()
