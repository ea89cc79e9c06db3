//! The built-in certificate authorities.
