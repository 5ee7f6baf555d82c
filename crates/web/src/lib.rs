//! The admin page in Korean and English.
