"""Say what the value of a machine setting may be, for the modules that write and read settings."""

LONGEST_VALUE = 256


class SettingsError(ValueError):
    """A setting that the machine cannot use. The message names the key and what it should be."""
