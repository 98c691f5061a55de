//! The machine alone; with nodes it is played in the simulator.
