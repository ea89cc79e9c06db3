//! Starts and ends the long-lived tasks of the operator.
