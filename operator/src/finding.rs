//! What is wrong with an object, in words for its owner.
