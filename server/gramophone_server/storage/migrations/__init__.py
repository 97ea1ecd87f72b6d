"""Migrations from older database schemas, run by Alembic. `upgrade` is imported only if the database needs one.

To change the tables:

1. change them in `storage/database.py`, and set `REVISION` there to the number of the new migration;
2. add `versions/revision_NNNN.py` with that number, like the existing ones;
3. run `tests/storage/test_database.py`, which compares the tables with the result of the migrations.
"""
