"""Errors a user can act on: the message says where, what was expected and what was found.

The exit codes are the command line's contract (see the README): 0 ok or nothing to do, 3 a gate refused,
4 try again, 5 bad configuration or input.
"""

from collections.abc import Mapping

EXIT_OK = 0
EXIT_GATE = 3
EXIT_RETRY = 4
EXIT_INPUT = 5


class LimeError(Exception):
    """Base of every error that the product raises on purpose."""

    exit_code = 1


class ContractError(LimeError):
    """A table or frame does not have the columns its contract states."""

    exit_code = EXIT_INPUT


class ConfigError(LimeError):
    """A configuration file or setting is wrong."""

    exit_code = EXIT_INPUT


class InputError(LimeError):
    """A source is missing, unreadable, empty or wholly rejected."""

    exit_code = EXIT_INPUT


class ModelArtifactError(LimeError):
    """A model package is damaged, mixed or of another version."""

    exit_code = EXIT_INPUT


class EmptyTableError(LimeError):
    """A table that a stage needs does not exist or holds no row."""

    exit_code = EXIT_INPUT


class BadNumberError(LimeError):
    """A stored number is not finite."""

    exit_code = EXIT_INPUT


class GateError(LimeError):
    """A gate refused what a night would publish; what was served stays. `figures` is what the gates saw."""

    exit_code = EXIT_GATE

    def __init__(self, message: str, figures: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.figures = figures or {}


class RetryableError(LimeError):
    """Another writer was in the way, or a resource was missing for now."""

    exit_code = EXIT_RETRY
