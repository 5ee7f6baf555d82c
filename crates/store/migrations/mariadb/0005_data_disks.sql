-- Data disks: further disks of the clients of a group, or of one client.
CREATE TABLE IF NOT EXISTS data_disks (
    -- 'group' or 'client'
    holder_kind VARCHAR(16) NOT NULL,
    holder_id VARCHAR(191) NOT NULL,
    -- 1 or more
    lun BIGINT NOT NULL,
    -- null: this client has no disk there, although its group has one
    image_id VARCHAR(191),
    -- null: the newest one
    version_number BIGINT,
    access VARCHAR(16) NOT NULL,
    PRIMARY KEY (holder_kind, holder_id, lun)
);

-- The data disk on which a maintenance client writes; null: its system disk.
ALTER TABLE maintenance ADD COLUMN IF NOT EXISTS data_lun BIGINT;
