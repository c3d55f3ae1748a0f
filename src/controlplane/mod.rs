//! May wait, may fail: configuration, admin, export.
