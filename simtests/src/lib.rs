//! Seeded fault scenarios for RaftKV.
