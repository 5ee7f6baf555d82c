-- Roles, second factors and API tokens of users; where sessions and changes come from.

-- 'viewer', 'operator' or 'owner'; who exists already made the site.
ALTER TABLE users ADD COLUMN role VARCHAR(16) NOT NULL DEFAULT 'owner';

ALTER TABLE users ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0;

-- Shared with the authenticator (base32); null: no second factor.
ALTER TABLE users ADD COLUMN totp_secret VARCHAR(64);

-- The last time step whose code was used.
ALTER TABLE users ADD COLUMN totp_step BIGINT;

ALTER TABLE users ADD COLUMN last_login_at BIGINT;

-- The network of the last login.
ALTER TABLE users ADD COLUMN last_login_from VARCHAR(64);

ALTER TABLE sessions ADD COLUMN peer VARCHAR(64) NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN agent VARCHAR(255) NOT NULL DEFAULT '';

CREATE TABLE recovery_codes (
    user_name VARCHAR(191) NOT NULL REFERENCES users (name),
    code_hash VARCHAR(64) NOT NULL,
    PRIMARY KEY (user_name, code_hash)
);

CREATE TABLE api_tokens (
    id VARCHAR(191) NOT NULL PRIMARY KEY,
    user_name VARCHAR(191) NOT NULL REFERENCES users (name),
    name VARCHAR(191) NOT NULL,
    -- 'read', 'operate' or 'admin'
    scope VARCHAR(16) NOT NULL,
    token_hash VARCHAR(64) NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    -- null: does not expire
    expires_at BIGINT,
    last_used_at BIGINT,
    UNIQUE (user_name, name)
);

-- From where: an address, or 'console'.
ALTER TABLE audit ADD COLUMN origin VARCHAR(64) NOT NULL DEFAULT '';

CREATE INDEX audit_actor ON audit (actor, at);

CREATE INDEX audit_action ON audit (action, at);
