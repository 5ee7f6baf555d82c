//! Repositories and migrations of the site database.
