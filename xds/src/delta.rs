//! One stream's side of the delta xDS protocol, as a state machine without I/O.
