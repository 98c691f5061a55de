//! Store backends for a node: memory and SQLite.
