//! The write-ahead log: segments of checked records, and recovery from them.
