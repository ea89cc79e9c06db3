//! Lines that the caller's own proxy writes: about what it refuses, and about calls that found no server.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use smidge_xds::{
    mesh::{
        access::{Payload, Ports},
        service::Protocol,
        settings::AccessLogs,
    },
    snapshot::Snapshot,
};
use smidge_xds_testing::{
    binaries,
    caller::{Authority, plain, request},
    inbound::{at, echo, within},
    meshes,
    outbound::Outbound,
    process,
};

use super::{expect, lines, mesh, read};

#[test]
fn an_attempt_without_an_answer_leaves_a_line_at_the_caller() {
    for binary in binaries::envoys() {
        for logs in [AccessLogs::Errors, AccessLogs::All("0".parse().unwrap())] {
            let [port, closed] = process::reserved_ports();
            let authority = Authority::generate();
            let snapshot = Snapshot::next(Arc::new(mesh(&authority, logs)), None);
            let view = snapshot.view(&meshes::proxy("web")).unwrap();
            let listeners = view.resources.keys().filter(|(_, name)| name.starts_with("outbound/10."));
            let listener = listeners.map(|(_, name)| name.to_string()).next().unwrap();
            let outbound = Outbound::start(&binary, &authority, (&listener, port), &snapshot, at(closed));
            let head = "GET /books?q HTTP/1.1\nHost: api\n";
            let (status, _) = request(plain(outbound.address()).unwrap(), head).unwrap();
            assert_eq!(status, 503);
            for (number, line) in lines(&outbound.envoy, 3).iter().enumerate() {
                // Envoy 1.36 has no name of the chain here.
                let service = (!binaries::traffic(&binary).is_none()).then_some("shop/api/80");
                let failed = json!({
                    "reporter": "source", "service": service, "backend": "shop/api/80",
                    "attempt": (number + 1).to_string(), "path": "/books", "flags": "UF", "destination": null,
                    "destination_address": at(closed).to_string(), "status": 0,
                    "method": "GET", "authority": "api",
                });
                expect(line, &failed);
            }
        }
    }
}

#[test]
fn a_connection_without_a_server_leaves_a_line_at_the_caller() {
    for binary in binaries::envoys() {
        let [port, closed] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = mesh(&authority, AccessLogs::Errors);
        meshes::grant(&mut mesh, "db", &["web"], Ports::All, Payload::Any);
        meshes::port(&mut mesh, "db", 5432).addresses = BTreeSet::from([at(5432).ip()]);
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let listener = "outbound/127.0.0.1:5432";
        let outbound = Outbound::start(&binary, &authority, (listener, port), &snapshot, at(closed));
        assert!(plain(outbound.address()).and_then(echo).is_err());
        let failed = json!({
            "reporter": "source", "service": "shop/db/5432", "backend": "shop/db/5432", "protocol": "TCP",
            "destination": null, "destination_address": at(closed).to_string(),
        });
        let is_failed = |line: &Value| line["flags"].as_str().is_some_and(|flags| flags.contains("UF"));
        within("a line", || read(&outbound.envoy).iter().any(is_failed));
        let lines = read(&outbound.envoy);
        expect(lines.iter().find(|line| is_failed(line)).unwrap(), &failed);
    }
}

#[test]
fn what_the_callers_own_proxy_refuses_leaves_a_line() {
    for binary in binaries::envoys() {
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let [port] = process::reserved_ports();
            let authority = Authority::generate();
            let mut mesh = mesh(&authority, AccessLogs::Errors);
            mesh.grants.clear();
            meshes::service(&mut mesh, "api", port, protocol, &[("api", 8080)]);
            meshes::port(&mut mesh, "api", port).addresses = BTreeSet::from([at(port).ip()]);
            let snapshot = Snapshot::next(Arc::new(mesh), None);
            let outbound = Outbound::start(&binary, &authority, ("outbound", port), &snapshot, at(1));
            let refused = json!({
                "reporter": "source", "policy": "denied", "dialled_address": at(port).to_string(),
            });
            let is_refused = |line: &Value| line["path"] == "/books" || protocol == Protocol::Tcp;
            if protocol == Protocol::Http {
                let head = "GET /books?q HTTP/1.1\nHost: api\n";
                assert_eq!(request(plain(outbound.address()).unwrap(), head).unwrap().0, 403);
            } else {
                assert!(plain(outbound.address()).and_then(echo).is_err());
            }
            within("a line", || read(&outbound.envoy).iter().any(is_refused));
            let lines = read(&outbound.envoy);
            expect(lines.iter().find(|line| is_refused(line)).unwrap(), &refused);
        }
    }
}
