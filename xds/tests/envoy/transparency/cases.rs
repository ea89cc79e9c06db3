//! The cases of the table: what the client sends, what the server answers, and the reason of each difference.

use smidge_xds_testing::http1::Script;

/// One exchange.
pub struct Case {
    pub name: &'static str,
    /// Bytes that the client sends.
    pub request: String,
    /// Bytes that it sends after an interim response 100.
    pub body: String,
    pub script: Script,
    /// Number of final responses.
    pub responses: usize,
    /// Reason of the difference; empty if there is none.
    pub reason: &'static str,
}

const OK: &str = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok";

impl Case {
    /// A case of one request and one response, in which `\n` is the end of a line.
    fn new(name: &'static str, head: &str, answer: &str, reason: &'static str) -> Self {
        let script = Script { answer: answer.replace('\n', "\r\n"), ..Script::default() };
        let request = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
        Self { name, request, body: String::new(), script, responses: 1, reason }
    }

    fn body(self, body: &str) -> Self {
        Self { request: self.request + body, ..self }
    }

    fn early(self, early: &str, body: &str) -> Self {
        let script = Script { early: early.replace('\n', "\r\n"), ..self.script };
        Self { script, body: body.to_owned(), ..self }
    }

    fn closes(self) -> Self {
        Self { script: Script { closes: true, ..self.script }, ..self }
    }
}

/// Returns all cases. The first one is the usual exchange.
pub fn cases() -> Vec<Case> {
    [requests(), names(), connections(), responses(), bodies()].into_iter().flatten().collect()
}

fn headers(count: usize) -> String {
    (0..count).map(|number| format!("\nX-Many-{number}: {number}")).collect::<Vec<_>>().concat()
}

fn large(size: usize) -> String {
    format!("\nX-Large: {}", "l".repeat(size))
}

fn requests() -> Vec<Case> {
    let get = |name, headers: &str, reason| {
        Case::new(name, &format!("GET /books HTTP/1.1\nHost: api{headers}"), OK, reason)
    };
    let first = |name, line: &str, reason| {
        let (line, headers) = line.split_once('\n').unwrap_or((line, ""));
        Case::new(name, format!("{line}\nHost: api\n{headers}").trim_end(), OK, reason)
    };
    vec![
        get("`GET`", "", "every exchange has this; the server sends no `Date` here"),
        get(
            "an offer of another protocol",
            "\nConnection: Upgrade, HTTP2-Settings\nUpgrade: TLS/1.2",
            "a proxy that does not switch ignores the offer, as a server may",
        ),
        get("an offer that begins with `web`", "\nConnection: Upgrade\nUpgrade: webdav", "the same"),
        get(
            "an offer of `h2c`",
            "\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAQAAP__",
            "the same",
        ),
        get("150 headers", &headers(150), ""),
        get("1,100 headers", &headers(1_100), "`spec.limits.headers` of the MeshConfig"),
        get("a head of 90 KB", &large(90_000), ""),
        get("a head of 110 KB", &large(110_000), "`spec.limits.headKiB` of the MeshConfig"),
        first(
            "`QUERY`",
            "QUERY /books HTTP/1.1\nContent-Type: text/plain\nContent-Length: 4",
            "Envoy 1.36 does not know the method",
        )
        .body("data"),
        first("`FOOBAR`", "FOOBAR /books HTTP/1.1", "Envoy takes the methods that it knows"),
        first(
            "`CONNECT`",
            "CONNECT api:80 HTTP/1.1",
            "a tunnel has no requests to judge: a forward proxy needs a port of protocol TCP",
        ),
        first("`OPTIONS *`", "OPTIONS * HTTP/1.1", "Envoy routes requests by their path"),
        first(
            "an absolute URL",
            "GET http://api/books HTTP/1.1",
            "the server gets the path, and the host as `Host`",
        ),
        first(
            "`%2F` in a path",
            "GET /a%2Fb HTTP/1.1",
            "servers do not agree on its meaning; refused in every access mode",
        ),
        first(
            "dot segments, `//` and a query",
            "GET /a/../b//c?x=/../y HTTP/1.1",
            "the path that is judged is the path that the server reads",
        ),
        first(
            "other escapes in a path",
            "GET /a%20b%7Ec%C3%BC HTTP/1.1",
            "the same: an escape that needs none is read as its character",
        ),
    ]
}

fn names() -> Vec<Case> {
    let get = |name, headers: &str, reason| {
        Case::new(name, &format!("GET /books HTTP/1.1\nHost: api{headers}"), OK, reason)
    };
    vec![
        get("a header name with `_`", "\nX_Role: admin", "many servers read `_` as `-`"),
        get("case of header names", "\nX-Custom-Thing: 1\nSOAPAction: x\nETag: y\nx-lower: z", ""),
        get(
            "a header twice",
            "\nX-Twice: 1\nX-Other: 2\nX-Twice: 3\nAccept: a\nAccept: b",
            "Envoy joins the values of some headers, which means the same",
        ),
        get("two `Cookie` headers", "\nCookie: a=1\nCookie: b=2", ""),
        get("an empty header", "\nX-Empty:", "a space without meaning"),
        get("`TE: trailers`", "\nTE: trailers\nConnection: TE", "`Connection` concerns one connection"),
        get(
            "`X-Forwarded-For` and the like",
            "\nX-Forwarded-For: 10.1.2.3\nX-Forwarded-Proto: https\nX-Request-Id: 7",
            "",
        ),
        get(
            "headers of proxies",
            "\nX-Envoy-Retry-On: 5xx\nX-Smidge-Caller: me\nX-Forwarded-Client-Cert: me",
            "proxies alone write them",
        ),
        get("`Via`, `Server` and `User-Agent`", "\nVia: 1.1 edge\nUser-Agent: x/1", ""),
    ]
}

fn connections() -> Vec<Case> {
    let old = |name, headers: &str, answer: &str, reason| {
        Case::new(name, &format!("GET /books HTTP/1.0{headers}"), answer, reason)
    };
    let closing = "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\nok";
    let kept = "HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nok";
    let endless = "HTTP/1.0 200 OK\n\nok";
    let three = "GET /1 HTTP/1.1\nHost: api\n\nGET /2 HTTP/1.1\nHost: api\n\nGET /3 HTTP/1.1\nHost: api";
    let close = "GET /books HTTP/1.1\nHost: api\nConnection: close";
    vec![
        old("HTTP/1.0", "\nHost: api", endless, "each hop speaks HTTP/1.1 to the next").closes(),
        old(
            "HTTP/1.0 with `keep-alive`",
            "\nHost: api\nConnection: keep-alive",
            kept,
            "each hop speaks HTTP/1.1 to the next",
        ),
        old("HTTP/1.0 without `Host`", "", endless, "HTTP/1.1 needs a host: that of the Service").closes(),
        Case::new(
            "`Connection: close` of the client",
            close,
            closing,
            "`Connection` concerns one connection",
        )
        .closes(),
        Case::new(
            "`Connection: close` of the server",
            "GET /books HTTP/1.1\nHost: api",
            closing,
            "`Connection` concerns one connection: that of the client stays",
        )
        .closes(),
        Case { responses: 3, ..Case::new("three pipelined requests", three, OK, "") },
        Case::new(
            "WebSocket",
            "GET /chat HTTP/1.1\nHost: api\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x",
            "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\nhello",
            "",
        ),
    ]
}

fn responses() -> Vec<Case> {
    let get = |name, head: &str, reason| {
        let answer = format!("HTTP/1.1 {head}\nContent-Length: 2\n\nok");
        Case::new(name, "GET /books HTTP/1.1\nHost: api", &answer, reason)
    };
    let is_head = "HTTP/1.1 200 OK\nContent-Length: 5000\n\n";
    vec![
        get("a response with 150 headers", &format!("200 OK{}", headers(150)), ""),
        get(
            "a response with 1,100 headers",
            &format!("200 OK{}", headers(1_100)),
            "`spec.limits.headers` of the MeshConfig",
        ),
        get("a response with a head of 90 KB", &format!("200 OK{}", large(90_000)), ""),
        get(
            "a response with a head of 110 KB",
            &format!("200 OK{}", large(110_000)),
            "`spec.limits.headKiB` of the MeshConfig",
        ),
        get(
            "case of header names in a response",
            "200 OK\nX-Custom-Thing: 1\nETag: y\nWWW-Authenticate: z",
            "",
        ),
        get("another reason phrase", "200 Fine", ""),
        get("an unusual status", "299 Strange", ""),
        get("`Set-Cookie` twice", "200 OK\nSet-Cookie: a=1\nX-Other: 2\nSet-Cookie: b=2", ""),
        get(
            "`Server` and `Date` of the server",
            "200 OK\nServer: tiny\nDate: Thu, 01 Jan 1970 00:00:00 GMT",
            "",
        ),
        get("a response header with `_`", "200 OK\nx_role: admin", ""),
        get("a server error with `Retry-After`", "503 Service Unavailable\nRetry-After: 5", ""),
        Case::new("`HEAD`", "HEAD /books HTTP/1.1\nHost: api", is_head, ""),
        Case::new("204", "DELETE /books HTTP/1.1\nHost: api", "HTTP/1.1 204 No Content\n\n", ""),
        Case::new("304", "GET /books HTTP/1.1\nHost: api", "HTTP/1.1 304 Not Modified\nETag: y\n\n", ""),
        get("early hints", "200 OK", "").early("HTTP/1.1 103 Early Hints\nLink: </x>; rel=preload\n\n", ""),
    ]
}

fn bodies() -> Vec<Case> {
    let post = "POST /books HTTP/1.1\nHost: api";
    let expects = format!("{post}\nExpect: 100-continue\nContent-Length: 4");
    let refuses = "HTTP/1.1 417 Expectation Failed\ncontent-length: 2\n\nno";
    let chunked = format!("{post}\nTransfer-Encoding: chunked\nTrailer: X-Sum");
    let in_chunks = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n";
    let trailed = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Sum\n\n2\nok\n0\nX-Sum: 7\n\n";
    let until_end = "HTTP/1.1 200 OK\n\nok";
    vec![
        Case::new("a body with a length", &format!("{post}\nContent-Length: 4"), OK, "").body("data"),
        Case::new("a body in chunks", &format!("{post}\nTransfer-Encoding: chunked"), in_chunks, "")
            .body("4\r\ndata\r\n0\r\n\r\n"),
        Case::new(
            "trailers of the request",
            &chunked,
            OK,
            "a server may read them as headers, which no rule would have judged",
        )
        .body("4\r\ndata\r\n0\r\nX-Sum: 4\r\n\r\n"),
        Case::new(
            "trailers of the response",
            "GET /books HTTP/1.1\nHost: api\nTE: trailers",
            trailed,
            "names of trailers lose their case; the order of headers has no meaning",
        ),
        Case::new(
            "a response until the connection ends",
            "GET /books HTTP/1.1\nHost: api",
            until_end,
            "the proxy cannot know the length",
        )
        .closes(),
        Case::new("`Expect: 100-continue`", &expects, OK, "").early("HTTP/1.1 100 Continue\n\n", "data"),
        Case::new("`Expect: 100-continue`, refused", &expects, "", "the proxy announces that it closes")
            .early(refuses, "data")
            .closes(),
        Case::new("a GET with a body", "GET /books HTTP/1.1\nHost: api\nContent-Length: 4", OK, "")
            .body("data"),
    ]
}
