//! Tells users what was found.
