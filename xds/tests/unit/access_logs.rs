//! Resources that a change of the access logs replaces: no listener of a Service, and no cluster.

use std::{collections::BTreeSet, sync::Arc};

use smidge_xds::{
    mesh::settings::{AccessLogs, Share},
    resources::{Resource, ResourceType},
    snapshot::Snapshot,
};
use smidge_xds_testing::meshes;

#[test]
fn a_change_of_the_mode_replaces_no_listener_of_a_service() {
    let modes = [AccessLogs::Off, AccessLogs::Errors, AccessLogs::All(Share::ALL)];
    for (from, to) in modes.into_iter().zip(modes.into_iter().cycle().skip(1)) {
        let before = Snapshot::next(Arc::new(meshes::access_logs(from)), None);
        let after = Snapshot::next(Arc::new(meshes::access_logs(to)), Some(&before));
        let listed = |snapshot: &Snapshot| {
            let key = |(class, it): (Option<&_>, &Arc<Resource>)| {
                (class.cloned(), it.kind, it.name.to_string(), it.version.clone())
            };
            snapshot.resources().iter().map(key).collect::<BTreeSet<_>>()
        };
        let (before, after) = (listed(&before), listed(&after));
        let changed: BTreeSet<_> =
            after.difference(&before).map(|(_, kind, name, _)| (*kind, name.as_str())).collect();
        let expected = [
            (ResourceType::Listener, "inbound"),
            (ResourceType::Listener, "outbound"),
            (ResourceType::Extension, "inbound/0/plain"),
            (ResourceType::Extension, "inbound/5432/plain"),
            (ResourceType::Extension, "outbound/router"),
            (ResourceType::Extension, "outbound/shop/db/5432"),
        ];
        let extensions = |kind: ResourceType| kind == ResourceType::Extension;
        assert!(changed.is_subset(&BTreeSet::from(expected)), "{from:?} to {to:?}: {changed:?}");
        assert!(changed.iter().any(|(kind, _)| extensions(*kind)), "{from:?} to {to:?}");
    }
}
