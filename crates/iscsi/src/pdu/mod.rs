//! Protocol data units (RFC 7143 §11).
