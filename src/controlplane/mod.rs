//! May wait, may fail: configuration, admin, export.

pub mod compile;
pub mod config;
