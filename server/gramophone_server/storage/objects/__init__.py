"""Files of jobs in an S3-compatible object store, for servers with --files."""
