-- What the removal of old rows, the start of the daemon, and the pages look rows up by.

CREATE INDEX IF NOT EXISTS boot_attempts_started ON boot_attempts (started_at);

CREATE INDEX IF NOT EXISTS boot_attempts_ended ON boot_attempts (ended_at);

CREATE INDEX IF NOT EXISTS clients_last_attempt ON clients (last_attempt);

CREATE INDEX IF NOT EXISTS jobs_created ON jobs (created_at);
