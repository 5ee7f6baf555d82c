-- Who made a version and of what, who writes the next one, and what was rolled out.

-- Highest number that a version of the image has or had: numbers are not given again.
ALTER TABLE images ADD COLUMN IF NOT EXISTS last_version BIGINT NOT NULL DEFAULT 0;

UPDATE images SET last_version =
    COALESCE((SELECT MAX(number) FROM image_versions WHERE image_id = images.id), 0);

ALTER TABLE image_versions ADD COLUMN IF NOT EXISTS parent BIGINT;

ALTER TABLE image_versions ADD COLUMN IF NOT EXISTS comment VARCHAR(1024) NOT NULL DEFAULT '';

ALTER TABLE image_versions ADD COLUMN IF NOT EXISTS author VARCHAR(191) NOT NULL DEFAULT '';

-- Bytes that the layer holds beyond its parent; null for versions imported by earlier releases.
ALTER TABLE image_versions ADD COLUMN IF NOT EXISTS layer_bytes BIGINT;

-- 1: a new version of the image is booted as soon as it is published.
ALTER TABLE clients ADD COLUMN IF NOT EXISTS follows_latest BIGINT NOT NULL DEFAULT 0;

ALTER TABLE client_groups ADD COLUMN IF NOT EXISTS follows_latest BIGINT NOT NULL DEFAULT 0;

-- The maintenance client of an image. While there is one, it boots this version with the policy
-- "maintenance", whatever is assigned to it.
CREATE TABLE IF NOT EXISTS maintenance (
    image_id VARCHAR(191) NOT NULL PRIMARY KEY REFERENCES images (id),
    client_id VARCHAR(191) NOT NULL UNIQUE REFERENCES clients (id),
    version_number BIGINT NOT NULL,
    actor VARCHAR(191) NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- Roll-outs that can be taken back, counted for each image from 1.
CREATE TABLE IF NOT EXISTS rollouts (
    image_id VARCHAR(191) NOT NULL REFERENCES images (id),
    number BIGINT NOT NULL,
    version_number BIGINT NOT NULL,
    actor VARCHAR(191) NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (image_id, number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

-- What a client or group was assigned before the roll-out.
CREATE TABLE IF NOT EXISTS rollout_holders (
    image_id VARCHAR(191) NOT NULL,
    number BIGINT NOT NULL,
    holder_kind VARCHAR(16) NOT NULL,
    holder_id VARCHAR(191) NOT NULL,
    before_image VARCHAR(191),
    before_version BIGINT,
    before_latest BIGINT NOT NULL,
    PRIMARY KEY (image_id, number, holder_kind, holder_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;
