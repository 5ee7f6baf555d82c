//! Folds events into boot attempts with a timeline; pure decisions, no I/O.
