//! `smidge redirect` in network namespaces of the test's own: which connections are redirected where, and that the
//! listener learns the original destination of a connection. Needs root, `nft`, `iptables`, `ip` and `unshare`.
//!
//! Each case runs this program again inside a new namespace (the pod), which makes a second one (the network outside)
//! and connects from both as different users.

use std::time::{Duration, Instant};

use crate::inject::envoy;
mod cni;
mod pod;
mod proxy;

use pod::{Pod, in_a_pod, in_an_empty_pod};
use smidge_xds::mesh::proxy::Families;
use smidge_xds_testing::binaries;

/// The user of the application, and of the proxy.
const APPLICATION: u32 = 1000;
const PROXY: u32 = 31_337;
/// The group of every proxy.
const GROUP: u32 = 1337;

#[test]
fn nftables_redirects() {
    in_a_pod("nftables_redirects", |pod| everything(pod, "nftables"));
}

#[test]
fn iptables_redirects() {
    in_a_pod("iptables_redirects", |pod| everything(pod, "iptables"));
}

#[test]
fn without_nft_iptables_is_taken() {
    in_a_pod("without_nft_iptables_is_taken", |pod| {
        let said = pod.redirect_without("nft", &[]);
        assert!(said.contains("with iptables"), "{said}");
        pod.expect(APPLICATION, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
        pod.expect_from_outside("10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    });
}

#[test]
fn without_the_capability_it_says_what_is_missing() {
    in_a_pod("without_the_capability_it_says_what_is_missing", |pod| {
        let said = pod.redirect_without_net_admin();
        assert!(said.contains("NET_ADMIN"), "{said}");
    });
}

fn everything(pod: &Pod, tool: &str) {
    let args = [
        "--tool",
        tool,
        "--proxy-user=31337",
        "--exclude-inbound-ports=9000",
        "--exclude-outbound-ports=5432",
        "--exclude-outbound-cidrs=198.51.100.0/24,2001:db8::/32",
    ];
    pod.redirect(&args);
    let rules = pod.rules();
    pod.redirect(&args);
    assert_eq!(pod.rules(), rules, "a second time changed the rules");

    // The application's calls go to the proxy, which learns their original destination.
    pod.expect(APPLICATION, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
    pod.expect(APPLICATION, None, "[fd09::1]:80", "15001 for [fd09::1]:80");
    pod.expect(0, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
    // DNS lookups and excluded destinations are not redirected: here nothing listens there.
    for address in ["10.9.0.1:53", "10.9.0.1:5432", "198.51.100.7:80", "[2001:db8::7]:80"] {
        pod.expect(APPLICATION, None, address, "refused");
    }
    // Calls over loopback are not redirected, by whichever address.
    pod.expect(APPLICATION, None, "127.0.0.1:8080", "8080 direct");
    pod.expect(APPLICATION, None, "10.9.0.2:8080", "8080 direct");
    pod.expect(APPLICATION, None, "[::1]:8080", "8080 direct");

    // The proxy's calls leave the pod. Those to its own pod are the application's to itself, and are inbound like any
    // other;
    pod.expect_of((PROXY, GROUP), None, "10.9.0.1:80", "refused");
    pod.expect_of((PROXY, GROUP), None, "[fd09::1]:80", "refused");
    pod.expect_of((PROXY, GROUP), None, "10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    pod.expect_of((PROXY, GROUP), None, "[fd09::2]:8080", "15006 for [fd09::2]:8080");
    // unless they are the inbound calls that the proxy passes on.
    pod.expect_of((PROXY, GROUP), Some("127.0.0.6"), "10.9.0.2:8080", "8080 direct");
    pod.expect_of((PROXY, GROUP), Some("::6"), "[fd09::2]:8080", "8080 direct");
    pod.expect_of((PROXY, GROUP), None, "127.0.0.1:8080", "8080 direct");
    // A port without the proxy has none before it for the pod itself either.
    pod.expect_of((PROXY, GROUP), None, "10.9.0.2:9000", "9000 direct");
    // A process with only the user or only the group of the proxy is an application, whatever its image sets.
    for (user, group) in [(PROXY, PROXY), (PROXY, 0), (APPLICATION, GROUP), (GROUP, GROUP), (0, GROUP)] {
        pod.expect_of((user, group), None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
        pod.expect_of((user, group), None, "[fd09::1]:80", "15001 for [fd09::1]:80");
    }
    // An application that binds that source address gains nothing.
    pod.expect(APPLICATION, Some("::6"), "[fd09::1]:80", "15001 for [fd09::1]:80");

    // Callers from elsewhere reach the proxy, except at its own ports and at what is excluded.
    pod.expect_from_outside("10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    pod.expect_from_outside("[fd09::2]:8080", "15006 for [fd09::2]:8080");
    pod.expect_from_outside("10.9.0.2:15001", "15006 for 10.9.0.2:15001");
    pod.expect_from_outside("10.9.0.2:9000", "9000 direct");
    pod.expect_from_outside("10.9.0.2:15021", "15021 direct");
    pod.expect_from_outside("[fd09::2]:15090", "15090 direct");
}

#[test]
fn nftables_redirects_included_ports_alone() {
    in_a_pod("nftables_redirects_included_ports_alone", |pod| included(pod, "nftables"));
}

#[test]
fn iptables_redirects_included_ports_alone() {
    in_a_pod("iptables_redirects_included_ports_alone", |pod| included(pod, "iptables"));
}

fn included(pod: &Pod, tool: &str) {
    let included = ["--include-inbound-ports=8080", "--include-outbound-ports=80,443"];
    pod.redirect(&[&["--tool", tool, "--proxy-user=31337"][..], &included].concat());
    pod.expect_from_outside("10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    pod.expect_from_outside("[fd09::2]:8080", "15006 for [fd09::2]:8080");
    pod.expect_from_outside("10.9.0.2:9000", "9000 direct");
    pod.expect_from_outside("10.9.0.2:15021", "15021 direct");
    pod.expect(APPLICATION, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
    pod.expect(APPLICATION, None, "[fd09::1]:443", "15001 for [fd09::1]:443");
    pod.expect(APPLICATION, None, "10.9.0.1:8080", "refused");
    pod.expect(APPLICATION, None, "10.9.0.1:53", "refused");
    pod.expect_of((PROXY, GROUP), None, "10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    pod.expect_of((PROXY, GROUP), None, "10.9.0.2:9000", "9000 direct");
}

#[test]
fn nftables_leaves_excluded_interfaces_alone() {
    in_a_pod("nftables_leaves_excluded_interfaces_alone", |pod| interfaces(pod, "nftables"));
}

#[test]
fn iptables_leaves_excluded_interfaces_alone() {
    in_a_pod("iptables_leaves_excluded_interfaces_alone", |pod| interfaces(pod, "iptables"));
}

/// The interface comes after the rules, as that of a further network may.
fn interfaces(pod: &Pod, tool: &str) {
    pod.redirect(&["--tool", tool, "--proxy-user=31337", "--exclude-interfaces=net1,net2"]);
    for (interface, inbound, outbound) in
        [("net0", "15006 for 10.10.0.2:8080", "15001 for 10.10.0.1:80"), ("net1", "8080 direct", "refused")]
    {
        pod.add_network(interface);
        pod.expect_from_outside("10.10.0.2:8080", inbound);
        pod.expect(APPLICATION, None, "10.10.0.1:80", outbound);
        pod.expect_from_outside("[fd10::2]:8080", &inbound.replace("10.10.0.2", "[fd10::2]"));
        pod.expect(APPLICATION, None, "[fd10::1]:80", &outbound.replace("10.10.0.1", "[fd10::1]"));
        pod.remove_network(interface);
    }
    // The pod's own network is as before.
    pod.expect_from_outside("10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    pod.expect(APPLICATION, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
}

/// A real proxy in the pod: another pod answers the application's requests to that pod's readiness or metrics port, and
/// not the proxy that the call passes; requests to this pod's ports are answered by its own proxy.
#[test]
fn the_proxys_own_ports_of_another_pod_are_that_pods() {
    in_an_empty_pod("the_proxys_own_ports_of_another_pod_are_that_pods", |pod| {
        let _outside = pod.listen_outside("10.9.0.1:15021 10.9.0.1:15090 10.9.0.1:8080");
        pod.redirect(&["--tool", "nftables"]);
        for binary in binaries::envoys() {
            let _proxy = proxy::start(&binary, "10.9.0.2");
            for port in [8080, 15021, 15090] {
                let (to, answer) = (format!("10.9.0.1:{port}"), format!("{port} direct"));
                pod.expect(APPLICATION, None, &to, &answer);
            }
            for own in ["10.9.0.2", "127.0.0.1"] {
                proxy::is_ready(own);
            }
        }
    });
}

/// A proxy takes the calls of every family that its pod has. Calls of another one are refused, and never passed through.
#[test]
fn a_proxy_takes_calls_of_its_pods_families() {
    in_an_empty_pod("a_proxy_takes_calls_of_its_pods_families", |pod| {
        let (v4, v6) = ("10.9.0.1:8080", "[fd09::1]:8080");
        let _outside = pod.listen_outside(&format!("{v4} {v6}"));
        pod.redirect(&["--tool", "nftables"]);
        for binary in binaries::envoys() {
            for (families, expected) in [
                (Families::V4, ["8080 direct", "refused"]),
                (Families::V6, ["refused", "8080 direct"]),
                (Families::Both, ["8080 direct", "8080 direct"]),
            ] {
                let address = if families == Families::V6 { "fd09::2" } else { "10.9.0.2" };
                let _proxy = proxy::start_in(&binary, address, families);
                pod.expect(APPLICATION, None, v4, expected[0]);
                pod.expect(APPLICATION, None, v6, expected[1]);
            }
        }
    });
}

/// A pod whose network has IPv6 switched off, as many have where pods have IPv4 alone: its proxy listens at no address
/// that it cannot bind.
#[test]
fn a_proxy_needs_no_ipv6_in_a_pod_without_it() {
    in_an_empty_pod("a_proxy_needs_no_ipv6_in_a_pod_without_it", |pod| {
        pod.switch_ipv6_off();
        let _outside = pod.listen_outside("10.9.0.1:8080");
        pod.redirect(&["--tool", "nftables"]);
        for binary in binaries::envoys() {
            let _proxy = proxy::start(&binary, "10.9.0.2");
            pod.expect(APPLICATION, None, "10.9.0.1:8080", "8080 direct");
        }
    });
}

/// The kernel accepts a connection for the proxy before the proxy knows whether its destination does. So the application
/// sees its end in place of an error: at once where the destination refuses, after the time limit of connecting where
/// nothing answers (docs/limits.md).
#[test]
fn a_call_to_what_does_not_accept_it_is_closed() {
    in_an_empty_pod("a_call_to_what_does_not_accept_it_is_closed", |pod| {
        pod.redirect(&["--tool", "nftables"]);
        pod.drop_outside(9999);
        for binary in binaries::envoys() {
            let _proxy = proxy::start(&binary, "10.9.0.2");
            let closed_after = |to: &str| {
                let started = Instant::now();
                pod.expect(APPLICATION, None, to, "");
                started.elapsed()
            };
            let (refused, silent) = (closed_after("10.9.0.1:9998"), closed_after("10.9.0.1:9999"));
            eprintln!("{}: refused {refused:?}, silent {silent:?}", binary.display());
            assert!(refused < Duration::from_secs(4), "{refused:?}");
            assert!((Duration::from_secs(5)..Duration::from_secs(15)).contains(&silent), "{silent:?}");
        }
    });
}

/// Not a case of its own: the cases run it as another user or in the other namespace.
#[test]
fn connects() {
    pod::connect_if_told();
}
