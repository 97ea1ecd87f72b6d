"""Steps from an older database of jobs to the latest, run by Alembic; `upgrade` is imported only where there are any.

To change the tables:

1. change them in `storage/database.py`, and set `REVISION` there to the number of the new step;
2. add `versions/revision_NNNN.py` of that number, after the model of those before it;
3. run `tests/storage/test_database.py`, which compares the tables with what the steps make.
"""
