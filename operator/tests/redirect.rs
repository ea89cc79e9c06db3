//! `smidge redirect` in network namespaces of the test's own: who is redirected where, and that the listener learns where the
//! connection was going. Needs root, `nft`, `iptables`, `ip` and `unshare`.
//!
//! Each case runs this program again inside a new namespace (the pod), which makes a second one (the world outside) and
//! connects from both as different users.

// Clippy lets tests unwrap, but does not take the functions that they share for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A `Pod` is the proof that the process is inside, where the methods may do what they do.
#![allow(clippy::unused_self)]

#[path = "inject/envoy.rs"]
mod envoy;
#[path = "redirect/pod.rs"]
mod pod;
#[path = "redirect/proxy.rs"]
mod proxy;

use pod::{Pod, in_a_pod, in_an_empty_pod};
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

    // The application's calls go to the proxy, which learns where they were to go.
    pod.expect(APPLICATION, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
    pod.expect(APPLICATION, None, "[fd09::1]:80", "15001 for [fd09::1]:80");
    pod.expect(0, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
    // Lookups and what is excluded go where they went: here to nobody.
    for address in ["10.9.0.1:53", "10.9.0.1:5432", "198.51.100.7:80", "[2001:db8::7]:80"] {
        pod.expect(APPLICATION, None, address, "refused");
    }
    // Loopback stays, by whichever address.
    pod.expect(APPLICATION, None, "127.0.0.1:8080", "8080 direct");
    pod.expect(APPLICATION, None, "10.9.0.2:8080", "8080 direct");
    pod.expect(APPLICATION, None, "[::1]:8080", "8080 direct");

    // The proxy's calls go out. Those to its own pod are the application's to itself, and come in like any other;
    pod.expect_of((PROXY, GROUP), None, "10.9.0.1:80", "refused");
    pod.expect_of((PROXY, GROUP), None, "[fd09::1]:80", "refused");
    pod.expect_of((PROXY, GROUP), None, "10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    pod.expect_of((PROXY, GROUP), None, "[fd09::2]:8080", "15006 for [fd09::2]:8080");
    // unless they are the ones that came in already.
    pod.expect_of((PROXY, GROUP), Some("127.0.0.6"), "10.9.0.2:8080", "8080 direct");
    pod.expect_of((PROXY, GROUP), Some("::6"), "[fd09::2]:8080", "8080 direct");
    pod.expect_of((PROXY, GROUP), None, "127.0.0.1:8080", "8080 direct");
    // Either of the two alone is an application, whatever its image says.
    for (user, group) in [(PROXY, PROXY), (PROXY, 0), (APPLICATION, GROUP), (GROUP, GROUP), (0, GROUP)] {
        pod.expect_of((user, group), None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
        pod.expect_of((user, group), None, "[fd09::1]:80", "15001 for [fd09::1]:80");
    }
    // An application that borrows that source gains nothing.
    pod.expect(APPLICATION, Some("::6"), "[fd09::1]:80", "15001 for [fd09::1]:80");

    // Callers from elsewhere meet the proxy, but for its own ports and what is excluded.
    pod.expect_from_outside("10.9.0.2:8080", "15006 for 10.9.0.2:8080");
    pod.expect_from_outside("[fd09::2]:8080", "15006 for [fd09::2]:8080");
    pod.expect_from_outside("10.9.0.2:15001", "15006 for 10.9.0.2:15001");
    pod.expect_from_outside("10.9.0.2:9000", "9000 direct");
    pod.expect_from_outside("10.9.0.2:15021", "15021 direct");
    pod.expect_from_outside("[fd09::2]:15090", "15090 direct");
}

/// A real proxy in the pod: what the application asks of another pod's readiness or metrics, that pod answers, and not the
/// proxy that the call goes through; what others ask of this pod's, its proxy answers.
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

/// Not a case of its own: what the cases run as another user or in the other namespace.
#[test]
fn connects() {
    pod::connect_if_told();
}
