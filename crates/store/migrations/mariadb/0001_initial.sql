-- One site. Times are milliseconds since the Unix epoch (UTC); identifiers are UUIDs (version 7)
-- made by the application; JSON is MEDIUMTEXT. Every statement can be run again, since MariaDB
-- cannot undo the ones before a failed one. Text is compared as in SQLite: byte by byte.

CREATE TABLE IF NOT EXISTS site (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    name VARCHAR(191) NOT NULL,
    registration VARCHAR(16) NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS servers (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    name VARCHAR(191) NOT NULL UNIQUE,
    address VARCHAR(45) NOT NULL,
    interfaces MEDIUMTEXT NOT NULL,
    http_port BIGINT NOT NULL,
    portals MEDIUMTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS subnets (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    network VARCHAR(64) NOT NULL UNIQUE,
    mode VARCHAR(16) NOT NULL,
    pool_first VARCHAR(45),
    pool_last VARCHAR(45),
    router VARCHAR(45),
    dns MEDIUMTEXT NOT NULL,
    lease_secs BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS images (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    name VARCHAR(191) NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS image_versions (
    image_id VARCHAR(191) NOT NULL REFERENCES images (id),
    number BIGINT NOT NULL,
    directory VARCHAR(191) NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (image_id, number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS client_groups (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    name VARCHAR(191) NOT NULL UNIQUE,
    is_default BIGINT NOT NULL,
    image_id VARCHAR(191),
    version_number BIGINT,
    policy VARCHAR(16) NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS clients (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    mac VARCHAR(17) NOT NULL UNIQUE,
    seat BIGINT NOT NULL UNIQUE,
    name VARCHAR(191) NOT NULL UNIQUE,
    group_id VARCHAR(191) NOT NULL REFERENCES client_groups (id),
    approved BIGINT NOT NULL,
    address VARCHAR(45) UNIQUE,
    image_id VARCHAR(191),
    version_number BIGINT,
    policy VARCHAR(16),
    boot_file VARCHAR(191),
    target_iqn VARCHAR(191) NOT NULL UNIQUE,
    initiator_iqn VARCHAR(191) NOT NULL UNIQUE,
    chap_user VARCHAR(64) NOT NULL,
    chap_secret VARCHAR(16) NOT NULL,
    disk_id VARCHAR(191) NOT NULL UNIQUE,
    disk_serial VARCHAR(32) NOT NULL UNIQUE,
    disk_naa BIGINT NOT NULL UNIQUE,
    reset_epoch BIGINT NOT NULL,
    architecture BIGINT,
    hardware_uuid VARCHAR(64),
    last_attempt VARCHAR(191),
    created_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS boot_attempts (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    mac VARCHAR(17) NOT NULL,
    client_id VARCHAR(191),
    started_at BIGINT NOT NULL,
    last_event_at BIGINT NOT NULL,
    up_at BIGINT,
    ended_at BIGINT,
    outcome VARCHAR(16) NOT NULL,
    stage VARCHAR(32) NOT NULL,
    fault_code VARCHAR(32),
    fault_text MEDIUMTEXT,
    read_bytes BIGINT NOT NULL,
    written_bytes BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE INDEX IF NOT EXISTS boot_attempts_client ON boot_attempts (client_id, started_at);

CREATE INDEX IF NOT EXISTS boot_attempts_mac ON boot_attempts (mac, started_at);

CREATE TABLE IF NOT EXISTS boot_steps (
    attempt_id VARCHAR(191) NOT NULL,
    position BIGINT NOT NULL,
    at BIGINT NOT NULL,
    stage VARCHAR(32) NOT NULL,
    detail MEDIUMTEXT NOT NULL,
    PRIMARY KEY (attempt_id, position)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS jobs (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    kind VARCHAR(32) NOT NULL,
    subject VARCHAR(191) NOT NULL,
    state VARCHAR(16) NOT NULL,
    payload MEDIUMTEXT NOT NULL,
    progress BIGINT NOT NULL,
    total BIGINT NOT NULL,
    runs BIGINT NOT NULL,
    cancel_requested BIGINT NOT NULL,
    result MEDIUMTEXT,
    error MEDIUMTEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, created_at);

CREATE TABLE IF NOT EXISTS users (
    name VARCHAR(191) NOT NULL PRIMARY KEY,
    password_hash VARCHAR(512) NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS sessions (
    token_hash VARCHAR(191) NOT NULL PRIMARY KEY,
    user_name VARCHAR(191) NOT NULL REFERENCES users (name),
    csrf VARCHAR(191) NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS audit (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor VARCHAR(191) NOT NULL,
    action VARCHAR(64) NOT NULL,
    subject VARCHAR(191) NOT NULL,
    details MEDIUMTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE INDEX IF NOT EXISTS audit_at ON audit (at);

CREATE TABLE IF NOT EXISTS notices (
    kind VARCHAR(32) NOT NULL,
    subject VARCHAR(191) NOT NULL,
    detail MEDIUMTEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;
