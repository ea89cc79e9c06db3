//! Builds the meshes of clusters that have IPv6.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use smidge_xds::mesh::{Mesh, proxy::Families};

/// Builds `http` in a cluster of these families: every instance and Service has an address of each.
pub fn mesh(families: Families) -> Mesh {
    let mut mesh = super::http();
    super::each_class(&mut mesh, |class| class.families = families);
    if families.is_v4() {
        return mesh;
    }
    let alone = families == Families::V6;
    let with_ipv6 = |address: &IpAddr| match address {
        IpAddr::V4(v4) => IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(v4.to_bits()))),
        IpAddr::V6(_) => *address,
    };
    for service in mesh.services.clone().keys() {
        let Some(service) = mesh.services.get_mut(service) else { continue };
        for port in Arc::make_mut(service).ports.values_mut() {
            let v6: Vec<IpAddr> = port.addresses.iter().map(with_ipv6).collect();
            port.addresses.retain(|_| !alone);
            port.addresses.extend(v6);
            for endpoint in &mut port.endpoints {
                let v6 = with_ipv6(&endpoint.address);
                if alone {
                    endpoint.address = v6;
                } else {
                    endpoint.alternatives.push(v6);
                }
            }
        }
    }
    mesh
}
