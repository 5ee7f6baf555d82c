-- How much of the storage a client, or the clients of a group together, may use (JSON).

ALTER TABLE clients ADD COLUMN IF NOT EXISTS limits VARCHAR(1024) NOT NULL DEFAULT '{}';

ALTER TABLE client_groups ADD COLUMN IF NOT EXISTS limits VARCHAR(1024) NOT NULL DEFAULT '{}';
