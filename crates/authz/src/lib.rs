//! Documents in, Authorized<Operation> out. Pure.
