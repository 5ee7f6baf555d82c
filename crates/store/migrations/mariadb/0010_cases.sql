-- Cases: faults that the server found, from when it found them until they were over.
CREATE TABLE IF NOT EXISTS cases (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    code VARCHAR(16) NOT NULL,
    -- e.g. 'seat:<client id>', 'service:dhcp'
    subject VARCHAR(191) NOT NULL,
    severity VARCHAR(16) NOT NULL,
    -- JSON: keys of the catalog with their values
    cause TEXT NOT NULL,
    evidence TEXT NOT NULL,
    -- JSON; null: DESS has no remedy of its own
    remedy TEXT,
    confidence BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    resolved_at BIGINT,
    acknowledged_at BIGINT,
    acknowledged_by VARCHAR(191)
);

CREATE INDEX IF NOT EXISTS cases_resolved ON cases (resolved_at, opened_at);
