-- The plan of the room: where the seats stand, and areas with a name. Columns and rows count from 1.
CREATE TABLE IF NOT EXISTS seat_places (
    client_id VARCHAR(191) NOT NULL PRIMARY KEY,
    place_column BIGINT NOT NULL,
    place_row BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS zones (
    -- 1 is drawn first
    position BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(191) NOT NULL,
    place_column BIGINT NOT NULL,
    place_row BIGINT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin;
