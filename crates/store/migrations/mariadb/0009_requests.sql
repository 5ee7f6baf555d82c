-- Creations ordered with an idempotency key, so that the same order is carried out once.
CREATE TABLE IF NOT EXISTS requests (
    -- who ordered it
    owner VARCHAR(191) NOT NULL,
    request_key VARCHAR(191) NOT NULL,
    -- digest of the order
    fingerprint VARCHAR(191) NOT NULL,
    -- JSON of what came of it; null: under way
    answer MEDIUMTEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner, request_key)
);
