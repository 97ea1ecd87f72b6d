-- The tables of version 2, the last version without Alembic, for SQLite and PostgreSQL.
CREATE TABLE jobs (id VARCHAR(64) NOT NULL, owner VARCHAR(256) NOT NULL, request_id VARCHAR(128), request_sha256 VARCHAR(64) NOT NULL, priority INTEGER NOT NULL, kind VARCHAR(16) NOT NULL, model VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, attempts INTEGER NOT NULL, create_time FLOAT NOT NULL, start_time FLOAT, end_time FLOAT, spec TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (owner, request_id));
CREATE TABLE blobs (sha256 VARCHAR(64) NOT NULL, size BIGINT NOT NULL, PRIMARY KEY (sha256));
CREATE TABLE events (job_id VARCHAR(64) NOT NULL, sequence BIGINT NOT NULL, time FLOAT NOT NULL, state VARCHAR(16) NOT NULL, detail TEXT, PRIMARY KEY (job_id, sequence), FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE);
CREATE TABLE job_blobs (job_id VARCHAR(64) NOT NULL, sha256 VARCHAR(64) NOT NULL, is_result BOOLEAN NOT NULL, PRIMARY KEY (job_id, sha256), FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE, FOREIGN KEY(sha256) REFERENCES blobs (sha256));
CREATE TABLE uploads (owner VARCHAR(256) NOT NULL, sha256 VARCHAR(64) NOT NULL, used FLOAT NOT NULL, PRIMARY KEY (owner, sha256), FOREIGN KEY(sha256) REFERENCES blobs (sha256));
CREATE TABLE ownership (one INTEGER NOT NULL, database_id VARCHAR(64) NOT NULL, folder_id VARCHAR(128) NOT NULL, fence BIGINT NOT NULL, host TEXT NOT NULL, folder TEXT NOT NULL, since FLOAT NOT NULL, seen FLOAT NOT NULL, doubted FLOAT NOT NULL, PRIMARY KEY (one));
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (2);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_by_end ON jobs (end_time);
CREATE INDEX blobs_of_jobs ON job_blobs (sha256);
