"""Several fronts on one PostgreSQL database, which alone says which front holds which job."""
