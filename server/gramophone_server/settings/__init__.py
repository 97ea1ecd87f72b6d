"""The settings of the server: each is one field, from which come its flag, variable, key and documentation."""

from .groups import (
    ConnectionSettings,
    LifetimeSettings,
    Limits,
    ModelSettings,
    ObservabilitySettings,
    SecuritySettings,
    Settings,
    StorageSettings,
    WorkerSettings,
)
from .table import Entry, Setting, build, entries, setting

__all__ = [
    "ConnectionSettings",
    "Entry",
    "LifetimeSettings",
    "Limits",
    "ModelSettings",
    "ObservabilitySettings",
    "SecuritySettings",
    "Setting",
    "Settings",
    "StorageSettings",
    "WorkerSettings",
    "build",
    "entries",
    "setting",
]
