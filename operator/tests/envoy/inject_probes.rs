//! Probes of an injected pod against a real Envoy: the kubelet's results while the application is up, down, or slow,
//! and what other clients cannot reach with the kubelet's paths.

mod application;
use crate::inject::envoy;
mod proxy;

use smidge_xds_testing::binaries;
use std::{net::TcpStream, sync::mpsc, thread, time::Duration};

use application::{Application, Grpc, Http};
use proxy::{Proxy, until};
use serde_json::{Value, json};

fn pod(container: &Value) -> Value {
    let mut container = container.clone();
    container["name"] = json!("app");
    container["image"] = json!("app:1");
    json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": {"containers": [container]}})
}

#[test]
fn an_http_probe_reaches_the_application_as_it_was_written() {
    for binary in binaries::envoys() {
        let application = Http::start(false);
        let probe = json!({"httpGet": {
            "path": "healthz?full=1&at=$(POD_NAME)%", "port": application.port(),
            "httpHeaders": [{"name": "X-Probe", "value": "50%$$"}, {"name": "Host", "value": "shop.example"}],
        }});
        let proxy = Proxy::start(&binary, &pod(&json!({"livenessProbe": probe})));
        until("alive", || proxy.probe("app/liveness") == Some(200));
        let request = application.last();
        assert!(request.starts_with("GET /healthz?full=1&at=$(POD_NAME)% HTTP/1.1\r\n"), "{request}");
        for header in ["host: shop.example", "x-probe: 50%$$", "user-agent: kube-probe/smidge", "accept: */*"]
        {
            assert!(request.contains(header), "{header} is missing in\n{request}");
        }
    }
}

#[test]
fn a_probe_without_headers_names_the_pod_and_its_port() {
    for binary in binaries::envoys() {
        let application = Http::start(false);
        let probe = json!({"httpGet": {"path": "/", "port": application.port()}});
        let proxy = Proxy::start(&binary, &pod(&json!({"lifecycle": {"preStop": probe}})));
        until("the hook", || proxy.probe("app/preStop") == Some(200));
        let request = application.last();
        assert!(request.contains(&format!("host: 127.0.0.1:{}\r\n", application.port())), "{request}");
        assert!(
            application.last_peer().ip().to_string() == "127.0.0.6",
            "the redirection would take it for a call"
        );
    }
}

#[test]
fn nothing_of_a_callers_own_reaches_the_application() {
    for binary in binaries::envoys() {
        let application = Http::start(false);
        let probe = json!({"httpGet": {"path": "/healthz", "port": application.port()}});
        let proxy = Proxy::start(&binary, &pod(&json!({"livenessProbe": probe})));
        until("alive", || proxy.probe("app/liveness") == Some(200));
        let path = proxy.path("app/liveness");
        let head = "HTTP/1.1\r\nhost: evil\r\nx-evil: evil\r\ncookie: evil\r\nx-forwarded-for: evil\r\nuser-agent: evil";
        assert_eq!(proxy.send(&format!("GET {path} {head}"), ""), Some(200));
        assert!(!application.last().contains("evil"), "{}", application.last());
        let seen = application.count();
        for request in [
            &format!("HEAD {path} HTTP/1.1"),
            &format!("POST {path} HTTP/1.1\r\ncontent-length: 0"),
            &format!("GET {path}?x=y HTTP/1.1"),
            &format!("GET {path}/ HTTP/1.1"),
            &format!("GET {}/../app{} HTTP/1.1", &path[..17], &path[17..]),
            &format!("GET /{path} HTTP/1.1"),
            &format!("GET {} HTTP/1.1", path.to_uppercase()),
            &format!("GET {} HTTP/1.1", path.replace("liveness", "readiness")),
            "GET /healthz HTTP/1.1",
            "GET /smidge/probe/app/readiness HTTP/1.1",
            "GET /stats HTTP/1.1",
            "GET /config_dump HTTP/1.1",
            "POST /quitquitquit HTTP/1.1\r\ncontent-length: 0",
            "HEAD /healthz/ready HTTP/1.1",
        ] {
            let status = proxy.send(&format!("{request}\r\nhost: pod"), "");
            assert_eq!(status, Some(404), "{}: {request}", binary.display());
        }
        let head = format!("GET {path} HTTP/1.1\r\nhost: pod");
        for (announced, body) in
            [("content-length: 4", "evil"), ("transfer-encoding: chunked", "4\r\nevil\r\n0\r\n\r\n")]
        {
            let status = proxy.send(&format!("{head}\r\n{announced}"), body);
            assert_eq!(status, Some(413), "{}: {announced}", binary.display());
        }
        assert_eq!(application.count(), seen, "{}: something came through", binary.display());
    }
}

#[test]
fn an_http_probe_fails_with_the_application_and_a_redirect_is_an_answer() {
    for binary in binaries::envoys() {
        let application = Http::start(false);
        let probe = json!({"httpGet": {"path": "/healthz", "port": application.port()}, "timeoutSeconds": 1});
        let proxy = Proxy::start(&binary, &pod(&json!({"livenessProbe": probe})));
        let ask = || proxy.probe("app/liveness");
        until("alive", || ask() == Some(200));
        application.answer("HTTP/1.1 302 Found\r\nlocation: /login");
        assert_eq!(ask(), Some(302));
        assert!(!proxy.last_answer().contains("location"), "the kubelet would follow it to the proxy's port");
        application.answer("HTTP/1.1 500 Sorry");
        assert_eq!(ask(), Some(500));
        application.hang();
        assert_eq!(ask(), Some(504), "{}: the probe's own timeout did not hold", binary.display());
        application.stop();
        until("dead", || ask() == Some(503));
    }
}

/// A client that may not read the pod does not know the token, and so can run no probe and no hook; a client that knows
/// it gets a status only.
#[test]
fn strangers_cannot_ask_and_nobody_is_told_more_than_the_status() {
    for binary in binaries::envoys() {
        let application = Http::start(false);
        let get = |path: &str| json!({"httpGet": {"path": path, "port": application.port()}});
        let container = json!({"livenessProbe": get("/healthz"), "readinessProbe": {"tcpSocket": {"port": application.port()}},
            "lifecycle": {"preStop": get("/quitquitquit")}});
        let proxy = Proxy::start(&binary, &pod(&container));
        application
            .answer("HTTP/1.1 200 OK\r\nset-cookie: secret\r\nx-envoy-secret: secret\r\nserver: secret");
        until("alive", || proxy.probe("app/liveness") == Some(200));
        let answer = proxy.whole(&proxy.path("app/liveness"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("secret"), "{answer}");
        assert!(!answer.contains("ok"), "the application's text is in\n{answer}");
        application.answer(&format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\nHTTP/1.1 200",
            2_000_000,
            "secret".repeat(333_334).get(..2_000_000).unwrap()
        ));
        let answer = proxy.whole(&proxy.path("app/liveness"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("secret"), "{answer}");
        application.answer("HTTP/1.1 200 OK");
        until("ready", || proxy.probe("app/readiness") == Some(200));
        assert!(!proxy.last_answer().contains("x-envoy"), "{}", proxy.last_answer());

        let seen = application.count();
        let token = |check| proxy.path(check).rsplit_once('/').unwrap().1.to_owned();
        let (one, hook) = (token("app/liveness"), token("app/preStop"));
        assert!(one != hook && one.len() == 32, "{one} {hook}");
        for check in ["app/liveness", "app/readiness", "app/preStop"] {
            for wrong in ["", "/", &format!("/{}", "0".repeat(32)), &format!("/{one}{hook}")] {
                assert_eq!(proxy.get(&format!("/smidge/probe/{check}{wrong}")), Some(404), "{check}{wrong}");
            }
        }
        assert_eq!(
            proxy.get(&format!("/smidge/probe/app/preStop/{one}")),
            Some(404),
            "another check's token"
        );
        assert_eq!(application.count(), seen, "{}: the application was asked", binary.display());
        assert_eq!(proxy.probe("app/preStop"), Some(200));
        assert!(application.last().starts_with("GET /quitquitquit "), "{}", application.last());
        // The statistics on the other port do not reveal it either.
        assert!(!proxy.metrics_text().contains(&one), "a token is in the metrics");
    }
}

#[test]
fn an_https_probe_takes_any_certificate() {
    for binary in binaries::envoys() {
        let application = Http::start(true);
        let probe = json!({"httpGet": {"path": "/healthz", "port": application.port(), "scheme": "HTTPS"}});
        let proxy = Proxy::start(&binary, &pod(&json!({"readinessProbe": probe})));
        until("ready", || proxy.probe("app/readiness") == Some(200));
        assert!(application.last().starts_with("GET /healthz "), "{}", application.last());
    }
}

#[test]
fn a_tcp_probe_tells_whether_the_port_is_open() {
    for binary in binaries::envoys() {
        let application = Application::reserve();
        let probe = json!({"tcpSocket": {"port": application.port()}, "periodSeconds": 2});
        let proxy = Proxy::start(&binary, &pod(&json!({"startupProbe": probe})));
        let ask = || proxy.probe("app/startup");
        until("down", || ask() == Some(503));
        let listening = application.listen();
        until("up", || ask() == Some(200));
        assert_eq!(proxy.get(&format!("{}?x", proxy.path("app/startup"))), Some(404));
        drop(listening);
        until("down again", || ask() == Some(503));
    }
}

#[test]
fn a_grpc_probe_asks_for_the_service() {
    for binary in binaries::envoys() {
        let application = Grpc::start("shop.Health");
        let probe = |service: &str| json!({"grpc": {"port": application.port(), "service": service}, "periodSeconds": 2});
        let container = json!({"livenessProbe": probe("shop.Health"), "readinessProbe": probe("shop.Other")});
        let proxy = Proxy::start(&binary, &pod(&container));
        until("alive", || proxy.probe("app/liveness") == Some(200));
        // The first check of both has ended by now: they started together, and this one did not have to wait for a
        // port.
        assert_eq!(proxy.probe("app/readiness"), Some(503), "{}", binary.display());
        application.serving(false);
        until("dead", || proxy.probe("app/liveness") == Some(503));
    }
}

#[test]
fn the_metrics_port_serves_metrics_alone() {
    for binary in binaries::envoys() {
        let proxy = Proxy::start(&binary, &pod(&json!({})));
        until("metrics", || proxy.metrics("GET /stats/prometheus HTTP/1.1") == Some(200));
        for request in [
            "GET /stats HTTP/1.1",
            "GET /config_dump HTTP/1.1",
            "POST /stats/prometheus HTTP/1.1\r\ncontent-length: 0",
            "GET /stats/prometheus? HTTP/1.1",
            "GET /stats/prometheus?usedonly HTTP/1.1",
            "GET /stats/prometheus?filter=server HTTP/1.1",
            "GET /stats/prometheus#x HTTP/1.1",
        ] {
            assert!(matches!(proxy.metrics(request), Some(404 | 400)), "{request}");
        }
        let page = proxy.metrics_text();
        let lines = page.lines().count();
        println!("{}: {lines} lines, {} bytes", binary.display(), page.len());
        assert!(page.contains("\nenvoy_server_live{} 1\n") && lines < 600, "{page}");
        // One that nothing has updated.
        assert!(!page.contains("envoy_http_downstream_rq_tx_reset"), "{page}");
        // The admin interface answers readiness as well, and the route accepts no query there either.
        assert_eq!(proxy.get("/healthz/ready?filter=server"), Some(404));
    }
}

/// A pattern that costs Envoy's main thread seconds, if it is evaluated: 20 alternatives of a thousand steps each.
#[test]
fn no_pattern_of_a_strangers_reaches_the_main_thread() {
    let piece = |letter: u8| format!("(%3F:.%7B0,33%7D{}){{30}}", char::from(letter));
    let pattern = format!("(%3F:{})Q", (b'a'..b'u').map(piece).collect::<Vec<_>>().join("%7C"));
    let request = format!("GET /stats/prometheus?filter={pattern} HTTP/1.1");
    for binary in binaries::envoys() {
        let proxy = Proxy::start(&binary, &pod(&json!({})));
        until("metrics", || proxy.metrics("GET /stats/prometheus HTTP/1.1") == Some(200));
        let before = proxy.counted("cluster.metrics.upstream_rq_total");
        let (port, request) = (proxy.metrics_port(), &request);
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(move || assert_eq!(proxy::status(port, request), Some(404), "it was evaluated"));
            }
        });
        assert_eq!(proxy.get("/healthz/ready"), Some(200), "{}", binary.display());
        assert_eq!(proxy.counted("cluster.metrics.upstream_rq_total"), before, "{}", binary.display());
    }
}

/// Metrics that never end: of many scrapes, one waits for its answer and one for its turn, and readiness for neither.
#[test]
fn scrapes_take_turns_and_readiness_waits_for_none() {
    for binary in binaries::envoys() {
        let application = Http::start(false);
        application.hang();
        let port = application.port();
        let proxy = Proxy::start_with(&binary, &pod(&json!({})), |config| {
            let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
            let metrics = clusters.iter_mut().find(|cluster| cluster["name"] == "metrics").unwrap();
            metrics["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
                json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
            // No scrape times out during the test.
            let listeners = config["static_resources"]["listeners"].as_array_mut().unwrap();
            let metrics = listeners.iter_mut().find(|listener| listener["name"] == "stats").unwrap();
            *metrics = serde_json::from_str(&metrics.to_string().replace("\"5s\"", "\"300s\"")).unwrap();
        });
        until("ready", || proxy.get("/healthz/ready") == Some(200));
        let (metrics, (told, answers)) = (proxy.metrics_port(), mpsc::channel());
        for _ in 0..20 {
            let told = told.clone();
            // Two of them get nothing until the proxy ends, when the channel has no receiver any more.
            thread::spawn(move || told.send(proxy::status(metrics, "GET /stats/prometheus HTTP/1.1")));
        }
        for _ in 0..18 {
            assert_eq!(answers.recv_timeout(DEADLINE), Ok(Some(503)), "{}", binary.display());
        }
        assert_eq!(proxy.get("/healthz/ready"), Some(200), "{}", binary.display());
        until("one is being answered", || application.count() == 1);
    }
}

/// The connections of a client that sends nothing are bounded, and take nothing from the other port.
#[test]
fn a_port_has_a_bound_on_connections_of_its_own() {
    for binary in binaries::envoys() {
        let proxy = Proxy::start(&binary, &pod(&json!({})));
        until("ready", || proxy.get("/healthz/ready") == Some(200));
        let connect = || TcpStream::connect(("127.0.0.1", proxy.metrics_port())).unwrap();
        let held: Vec<TcpStream> = (0..250).map(|_| connect()).collect();
        until("the surplus is cut off", || proxy.metrics("GET /stats/prometheus HTTP/1.1").is_none());
        assert_eq!(proxy.get("/healthz/ready"), Some(200), "{}", binary.display());
        drop(held);
        until("metrics", || proxy.metrics("GET /stats/prometheus HTTP/1.1") == Some(200));
    }
}

/// Time limit for a state to show: an active check runs every second or two here.
const DEADLINE: Duration = Duration::from_secs(20);
