//! SCSI commands, VPD and mode pages, sense: SPC-4 and SBC-3 of a thin disk, as values.
