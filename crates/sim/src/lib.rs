//! N nodes and M coordinators in one deterministic world, with faults. Pure.
