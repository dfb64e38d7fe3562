"""The command's first moments, as `workbook` and as `python -m workbook`: Ctrl-C while it loads ends it without a traceback."""

import signal


def main() -> None:
    """Load the command, a third of a second in which Ctrl-C simply ends the process, and run it."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where the shell has it ignored
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from workbook import cli

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
