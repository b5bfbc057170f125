"""The command line: one module per family of commands; `main` finds the command."""
