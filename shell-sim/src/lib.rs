//! Seeded fault models and the simulated shell around the RaftKV core.
