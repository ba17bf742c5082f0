//! The RaftKV command line for people and operators.
