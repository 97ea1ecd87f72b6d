"""Stores jobs in a database and files, with quotas, ownership of the database, and recovery from disk failures."""
