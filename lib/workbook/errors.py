"""What a user can mend: one base class, so that the command says it in words instead of showing a traceback."""

from __future__ import annotations


class WorkbookError(Exception):
    """Something that the user can mend; the message says what is wrong, where, what is allowed and what to do."""


class ParameterError(WorkbookError, ValueError):
    """One or more parameters are not allowed; the message lists every one with what is allowed."""


class RunError(WorkbookError):
    """A run folder cannot be used; the message says which, why and what to do."""
