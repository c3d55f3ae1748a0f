//! May wait, may fail: configuration, admin, export.

pub mod config;
