//! The objects of one cluster, as read.
