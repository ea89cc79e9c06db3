//! Publishes snapshots of the mesh to the streams.
