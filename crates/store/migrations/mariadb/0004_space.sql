-- How large overlays may get: of a client, and of each client of a group (JSON). Marks of the pool that holds them (JSON).

ALTER TABLE clients ADD COLUMN IF NOT EXISTS overlay_limits VARCHAR(255) NOT NULL DEFAULT '{}';

ALTER TABLE client_groups ADD COLUMN IF NOT EXISTS overlay_limits VARCHAR(255) NOT NULL DEFAULT '{}';

ALTER TABLE site ADD COLUMN IF NOT EXISTS pool VARCHAR(255) NOT NULL DEFAULT '{}';
