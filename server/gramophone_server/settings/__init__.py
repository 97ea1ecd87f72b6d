"""The settings of the server. Each is one field: flag, variable, key and documentation are derived from it."""

from .groups import (
    ConnectionSettings,
    HttpSettings,
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
    "HttpSettings",
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
