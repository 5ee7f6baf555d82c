-- The plan of the room: where the seats stand, and areas with a name. Columns and rows count from 1.
CREATE TABLE seat_places (
    client_id VARCHAR(191) NOT NULL PRIMARY KEY,
    place_column BIGINT NOT NULL,
    place_row BIGINT NOT NULL
);

CREATE TABLE zones (
    -- 1 is drawn first
    position BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(191) NOT NULL,
    place_column BIGINT NOT NULL,
    place_row BIGINT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL
);
